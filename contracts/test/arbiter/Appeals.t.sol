// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, DisputePhase, Filing, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev The second jury, the brake on a wave of slashes, and that stake and time outlast both.
contract AppealsTest is DisputeFixture {
    function test_AppealOverturns() public {
        funded();
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, BAD));
        appealAs(worker(), id);
        vm.assertEq(court.bonds(), 3 * BOND);
        vm.assertEq(court.disputeOf(id).level, 1);
        voted(id, 8, votesOf(5, GOOD));
        vm.assertEq(court.disputeOf(id).appealBy, 0);
        court.execute(filing);
        vm.assertEq(court.creditOf(worker()), 3 * BOND, "the bond comes back");
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
        vm.assertEq(stakeOf(nodeAt(3)), 2 * STAKE - JUROR_PENALTY, "the final outcome is the measure");
        vm.assertEq(court.creditOf(nodeAt(8)), JUROR_FEE);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - 10 * JUROR_FEE, "the flagger pays both juries");
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    function test_LostAppealCostsTheBond() public {
        uint256 pool = funded();
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, BAD));
        appealAs(nodeAt(2), id);
        voted(id, 8, votesOf(5, BAD));
        court.execute(filing);
        vm.assertEq(court.creditOf(nodeAt(2)), 0);
        vm.assertEq(court.bonds(), 0);
        uint256 paid = AUDITOR_FEE + 10 * JUROR_FEE;
        vm.assertEq(court.pool(), pool + 80 ether + AUDITOR_PENALTY + 3 * BOND - paid);
    }

    function test_AccusersAppealAgainstInnocent() public {
        for (uint256 i; i < 2; ++i) {
            funded();
            Filing memory filing = disputed(FLAG, PASS);
            bytes32 id = idOf(filing);
            voted(id, 3, votesOf(5, GOOD));
            lost(worker(), id);
            lost(nodeAt(2), id);
            appealAs(i == 0 ? carol : nodeAt(1), id);
            uint256 before = court.creditOf(i == 0 ? carol : nodeAt(1));
            uint256 fee = i == 0 ? 0 : AUDITOR_FEE;
            voted(id, 8, votesOf(5, BAD));
            uint256 stake = stakeOf(worker());
            court.execute(filing);
            uint256 compensation = i == 0 ? (stake - stakeOf(worker())) * 3 / 10 : 0;
            vm.assertEq(court.creditOf(i == 0 ? carol : nodeAt(1)) - before, 3 * BOND + fee + compensation);
        }
    }

    /// @dev A larger jury is not called for nothing: who stays in doubt has lost the appeal, whichever side it is.
    function test_AnAppealThatLeavesDoubtCostsItsBond() public {
        for (uint256 i; i < 4; ++i) {
            uint256 pool = funded();
            Filing memory filing = disputed(FLAG, FLAG);
            bytes32 id = idOf(filing);
            noJury(filing);
            address who = i % 2 == 0 ? worker() : carol;
            uint256 flaggers = court.creditOf(nodeAt(1));
            appealAs(who, id);
            if (i < 2) noJury(filing);
            else voted(id, 8, votesOf(5, CANNOT_TELL));
            court.execute(filing);
            vm.assertEq(court.creditOf(who), 0);
            vm.assertEq(court.creditOf(nodeAt(1)) - flaggers, AUDITOR_FEE);
            vm.assertEq(court.pool(), pool + AUDIT_FEE + 3 * BOND - 2 * AUDITOR_FEE);
            vm.assertEq(stakeOf(worker()), 8 * STAKE);
            assertState(filing.terms, TaskState.Expired);
        }
    }

    /// @dev Hardly anybody came: nobody may call a jury half as large again, and nobody has to wait for it.
    function test_UnheardIsFinalAtOnce() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        noJury(filing);
        vm.assertEq(uint8(court.disputeOf(id).outcome), uint8(DisputeOutcome.Unheard));
        vm.assertEq(court.disputeOf(id).appealBy, 0);
        address[2] memory accusers = [carol, nodeAt(1)];
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IArbiter.TooLate.selector, id, 0));
            vm.prank(accusers[i]);
            court.appeal(id);
        }
        court.execute(filing);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    /// @dev A requester that was heard and goes on has one more bond to lose.
    function test_AnAppealAgainstUpheldCostsItsBond() public {
        uint256 pool = funded();
        Filing memory filing = disputed(PASS, WITHHELD);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, CANNOT_TELL));
        lost(worker(), id);
        lost(nodeAt(1), id);
        appealAs(carol, id);
        voted(id, 8, votesOf(5, CANNOT_TELL));
        court.execute(filing);
        vm.assertEq(uint8(court.disputeOf(id).outcome), uint8(DisputeOutcome.Upheld));
        vm.assertEq(court.creditOf(carol), 0);
        vm.assertEq(court.pool(), pool + 3 * BOND - AUDITOR_FEE);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    /// @dev Who was left in doubt is cleared by the second jury, or convicted.
    function test_AnAppealDecidesWhatWasUndecided() public {
        for (uint256 i; i < 2; ++i) {
            funded();
            Filing memory filing = disputed(FLAG, FLAG);
            voted(idOf(filing), 3, votesOf(5, CANNOT_TELL));
            appealAs(worker(), idOf(filing));
            voted(idOf(filing), 8, votesOf(5, i == 0 ? GOOD : BAD));
            uint256 stake = stakeOf(worker());
            court.execute(filing);
            assertState(filing.terms, i == 0 ? TaskState.Committed : TaskState.Expired);
            vm.assertTrue((stakeOf(worker()) < stake) == (i == 1));
        }
    }

    /// @dev Else accusers would only need a second jury that is too small, or divided, to undo an acquittal.
    function test_AcquittalStandsWhenTheAppealIsDivided() public {
        funded();
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, GOOD));
        appealAs(carol, id);
        uint8[] memory votes = votesOf(5, BAD);
        (votes[0], votes[1]) = (GOOD, GOOD);
        voted(id, 8, votes);
        court.execute(filing);
        assertState(filing.terms, TaskState.Committed);
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
        vm.assertEq(court.creditOf(carol), 0, "the bond of a lost appeal");
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - 5 * JUROR_FEE, "the bond pays the second jury");
        vm.assertEq(court.creditOf(nodeAt(8)), JUROR_FEE);
        vm.assertEq(stakeOf(nodeAt(12)), 2 * STAKE - JUROR_PENALTY);
    }

    function test_RevertWhen_AppealedByWinnersOrStrangers() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, BAD));
        lost(carol, id);
        lost(nodeAt(1), id);
        lost(nodeAt(3), id);
        lost(bob, id);
    }

    function test_RevertWhen_AppealedLateTwiceOrTooSoon() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.UnexpectedDisputePhase.selector, id, DisputePhase.Voting));
        vm.prank(worker());
        court.appeal(id);
        voted(id, 3, votesOf(5, BAD));
        uint40 closes = court.disputeOf(id).appealBy;
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooEarly.selector, id, closes + 1));
        court.execute(filing);
        vm.warp(closes + 1);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooLate.selector, id, closes));
        vm.prank(worker());
        court.appeal(id);
        vm.warp(closes);
        appealAs(worker(), id);
        voted(id, 8, votesOf(5, BAD));
        vm.expectRevert(abi.encodeWithSelector(IArbiter.UnexpectedDisputePhase.selector, id, DisputePhase.Tallied));
        vm.prank(worker());
        court.appeal(id);
        court.execute(filing);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.UnexpectedDisputePhase.selector, id, DisputePhase.Executed));
        court.execute(filing);
    }

    /// @dev Fresh eyes first: who sat at level 0 may take a seat that is still free after half of the window.
    function test_FirstJurorsWaitAtTheSecondLevel() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, BAD));
        appealAs(worker(), id);
        summoned(id);
        uint40 half = court.disputeOf(id).commitBy - VOTE_COMMIT / 2;
        vm.warp(half);
        refuse(nodeAt(3), id, abi.encodeWithSelector(IArbiter.NotEligible.selector, nodeAt(3)));
        vm.warp(half + 1);
        commitVoteAs(nodeAt(3), id, BAD);
        vm.assertEq(court.jurorsOf(id, 1).length, 1);
        vm.assertEq(court.jurorsOf(id, 0).length, 5);
    }

    // ------------------------------------------------------------------ brake

    function test_BrakeStopsAWaveOfOneProfile() public {
        for (uint256 i; i < 3; ++i) {
            convicted();
        }
        uint256 stake = stakeOf(worker());
        uint256 auditor = stakeOf(nodeAt(2));
        uint256 before = board.balanceOf(carol);
        Filing memory filing = disputed(FLAG, PASS);
        uint8[] memory votes = votesOf(5, BAD);
        votes[0] = GOOD;
        voted(idOf(filing), 3, votes);
        skip(APPEAL + 1);
        uint256 day = vm.getBlockTimestamp() / 1 days;
        vm.assertEq(court.slashesOf(PROFILE, day), 3);
        vm.expectEmit(address(court));
        emit IArbiter.BrakeEngaged(PROFILE, day);
        court.execute(filing);
        vm.assertEq(stakeOf(worker()), stake, "not slashed");
        vm.assertEq(stakeOf(nodeAt(2)), auditor, "nor who passed it");
        vm.assertEq(stakeOf(nodeAt(3)), 2 * STAKE, "nor who voted for it");
        vm.assertEq(before - board.balanceOf(carol), AUDIT_FEE, "the refund is in");
        skip(1 days);
        convicted();
        vm.assertTrue(stakeOf(worker()) < stake, "another day");
    }

    // ------------------------------------------------------------------ stake and time

    /// @dev Leaving right after a vote or an audit does not save the stake.
    function test_StakeStaysUntilTheLongestDisputeIsOver() public {
        Filing memory filing = filed(AuditMode.Always);
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        vm.prank(nodeAt(1));
        registry.beginUnbond();
        vm.warp(beacon.startOf(court.auditOf(idOf(filing)).round) + AUDIT_COMMIT);
        vm.warp(vm.getBlockTimestamp() + AUDIT_REVEAL);
        revealedBoth(filing, PASS, FLAG, noise(1), noise(1));
        bytes32 id = idOf(filing);
        slowJury(id, 3, BAD);
        appealAs(worker(), id);
        slowJury(id, 8, BAD);
        court.execute(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY, "still slashable");
        vm.assertEq(stakeOf(worker()), 8 * STAKE - PENALTY);
    }

    /// @dev The board's hold window is the last word on the fee; the court still finishes, and nobody is paid twice.
    function test_ExecutedAfterTheBoardRefunded() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, GOOD));
        uint256 before = board.balanceOf(carol);
        skip(1000);
        board.expire(filing.terms);
        court.execute(filing);
        vm.assertEq(board.balanceOf(carol) - before, FEE);
        assertState(filing.terms, TaskState.Expired);
        vm.assertEq(board.settle(one(filing.terms)), 0);
    }
}
