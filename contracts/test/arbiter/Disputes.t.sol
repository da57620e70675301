// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    AuditPhase,
    DisputeOutcome,
    DisputePhase,
    DisputeView,
    Filing,
    IArbiter,
    PenaltyReason
} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, ITaskBoard, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Disputes: who may bring them, who judges, and where the money goes.
contract DisputesTest is AuditFixture {
    /// @dev The larger of 100 fees and 5 % of the worker's stake of 8,000.
    uint256 private constant PENALTY = 400 ether;

    function nodeCount() internal pure override returns (uint256) {
        return 14;
    }

    // ------------------------------------------------------------------ outcomes

    function test_GuiltyIsSlashedToTheWei() public {
        uint256 pool = funded();
        Filing memory filing = disputed(FLAG, PASS);
        uint256 before = board.balanceOf(carol);
        voted(idOf(filing), 3, votesOf(5, BAD));
        skip(APPEAL + 1);
        vm.expectEmit(address(court));
        emit IArbiter.DisputeExecuted(
            idOf(filing), uint8(DisputeOutcome.Guilty), uint96(PENALTY), 200 ether, 120 ether, 80 ether
        );
        court.execute(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE - PENALTY);
        vm.assertEq(court.creditOf(BURN), 200 ether);
        vm.assertEq(court.creditOf(carol), 120 ether);
        vm.assertEq(board.balanceOf(carol) - before, FEE, "refunded");
        assertState(filing.terms, TaskState.Expired);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE, "the flagger was right");
        vm.assertEq(court.creditOf(nodeAt(2)), 0);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE - AUDITOR_PENALTY, "who passed it was wrong");
        for (uint256 i = 3; i < 8; ++i) {
            vm.assertEq(court.creditOf(nodeAt(i)), JUROR_FEE);
        }
        vm.assertEq(court.pool(), pool + 80 ether + AUDITOR_PENALTY - AUDITOR_FEE - 5 * JUROR_FEE);
        assertPurse(200 ether + 120 ether + AUDITOR_FEE + 5 * JUROR_FEE);
        court.burn();
        vm.assertEq(token.balanceOf(BURN), 200 ether);
        assertPhase(filing, DisputePhase.Executed);
    }

    function test_InnocentIsPaidAndFlaggersPenalised() public {
        uint256 pool = funded();
        Filing memory filing = disputed(FLAG, PASS);
        uint8[] memory votes = votesOf(5, GOOD);
        (votes[3], votes[4]) = (BAD, CANNOT_TELL);
        voted(idOf(filing), 3, votes);
        vm.expectEmit(address(court));
        emit IArbiter.AuditorPenalised(idOf(filing), nodeAt(1), AUDITOR_PENALTY, uint8(PenaltyReason.WrongVerdict));
        vm.expectEmit(address(court));
        emit IArbiter.JurorPenalised(idOf(filing), nodeAt(6), JUROR_PENALTY, uint8(PenaltyReason.Incoherent));
        executed(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
        assertState(filing.terms, TaskState.Committed);
        vm.assertEq(board.settle(one(filing.terms)), 1);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY);
        vm.assertEq(court.creditOf(nodeAt(2)), AUDITOR_FEE);
        vm.assertEq(court.creditOf(nodeAt(5)), JUROR_FEE);
        vm.assertEq(stakeOf(nodeAt(6)), 2 * STAKE - JUROR_PENALTY);
        vm.assertEq(court.creditOf(nodeAt(7)), 0, "cannot tell is not paid");
        vm.assertEq(stakeOf(nodeAt(7)), 2 * STAKE, "cannot tell is not penalised");
        vm.assertEq(court.pool(), pool + AUDITOR_PENALTY + JUROR_PENALTY - AUDITOR_FEE - 3 * JUROR_FEE);
    }

    function test_UndecidedRefundsAndSlashesNobody() public {
        audited(filed(), PASS, PASS);
        funded();
        Filing memory filing = disputed(FLAG, PASS);
        uint256 before = board.balanceOf(carol);
        uint8[] memory votes = votesOf(5, CANNOT_TELL);
        (votes[0], votes[1], votes[2], votes[3]) = (BAD, BAD, GOOD, GOOD);
        voted(idOf(filing), 3, votes);
        executed(filing);
        vm.assertEq(board.balanceOf(carol) - before, FEE);
        for (uint256 i; i < 8; ++i) {
            vm.assertEq(stakeOf(nodeAt(i)), i == 0 ? 8 * STAKE : 2 * STAKE);
        }
        vm.assertEq(court.passedOf(worker()), 0, "its rate rises");
        vm.assertEq(court.creditOf(nodeAt(3)), JUROR_FEE);
        vm.assertEq(court.creditOf(nodeAt(5)), JUROR_FEE);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE);
    }

    /// @dev Two auditors pass with unlike numbers: one of them did not run the step, and jurors can say which.
    function test_LazyAuditorIsFound() public {
        funded();
        Filing memory filing = filed(AuditMode.Always);
        audited(filing, PASS, PASS, noise(1), noise(2));
        assertPhase(filing, AuditPhase.Disputed);
        voted(idOf(filing), 3, votesOf(5, GOOD | 8));
        vm.expectEmit(address(court));
        emit IArbiter.AuditorPenalised(idOf(filing), nodeAt(2), AUDITOR_PENALTY, uint8(PenaltyReason.WrongProjection));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE - AUDITOR_PENALTY);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    /// @dev Wrong verdict and wrong projection cost once; a minority's word on projections counts for nothing.
    function test_AuditorLosesOnce() public {
        funded();
        Filing memory filing = disputed(FLAG, PASS);
        uint8[] memory votes = votesOf(5, GOOD | 4);
        votes[0] = votes[1] = GOOD | 4 | 8;
        voted(idOf(filing), 3, votes);
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE);
    }

    function test_WithheldCountsAsAFlag() public {
        Filing memory filing = disputed(WITHHELD, WITHHELD);
        DisputeView memory dispute = court.disputeOf(idOf(filing));
        vm.assertEq(uint8(dispute.phase), uint8(DisputePhase.Voting));
        vm.assertEq(dispute.profile, PROFILE);
    }

    /// @dev Whoever calls a jury over openings that jurors then get pays that jury, and nobody loses more by it.
    function test_AnAlarmOverGoodWorkCostsItsJury() public {
        uint256 pool = funded();
        Filing memory filing = disputed(WITHHELD, PASS);
        voted(idOf(filing), 3, votesOf(5, GOOD));
        uint96 price = 5 * JUROR_FEE;
        vm.expectEmit(address(court));
        emit IArbiter.AuditorPenalised(idOf(filing), nodeAt(1), price, uint8(PenaltyReason.WrongVerdict));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - price);
        vm.assertEq(court.creditOf(nodeAt(1)), 0);
        vm.assertEq(court.pool(), pool - AUDITOR_FEE, "the alarm pays the jurors, to the wei");
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
    }

    function test_TwoAlarmsOverGoodWorkShareTheJury() public {
        uint256 pool = funded();
        Filing memory filing = disputed(WITHHELD, WITHHELD);
        voted(idOf(filing), 3, votesOf(5, GOOD));
        executed(filing);
        uint96 half = (5 * JUROR_FEE + 1) / 2;
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - half);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE - half);
        vm.assertEq(court.pool(), pool + 2 * half - 5 * JUROR_FEE);
    }

    function test_AnAlarmBesideAFlagCostsWhatEachOfThemDoes() public {
        Filing memory filing = disputed(WITHHELD, FLAG);
        voted(idOf(filing), 3, votesOf(5, GOOD));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - 5 * JUROR_FEE);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE - AUDITOR_PENALTY);
    }

    /// @dev The second jury is paid by the bond that called it.
    function test_AnAlarmPaysTheFirstJuryOnly() public {
        funded();
        Filing memory filing = disputed(WITHHELD, PASS);
        voted(idOf(filing), 3, votesOf(5, GOOD));
        appealAs(carol, idOf(filing));
        voted(idOf(filing), 8, votesOf(5, GOOD));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - 5 * JUROR_FEE);
    }

    function test_AnAlarmThatJurorsConfirmIsPaid() public {
        funded();
        Filing memory filing = disputed(WITHHELD, WITHHELD);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE);
        vm.assertTrue(stakeOf(worker()) < 8 * STAKE);
    }

    /// @dev All that a small stake has, and no more.
    function test_NobodyLosesMoreThanItsStake() public {
        vm.prank(worker());
        registry.addStake(0);
        Filing memory filing = filed(AuditMode.Always, 100 ether);
        audited(filing, FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(stakeOf(worker()), 0, "100 fees of 100 exceed the stake of 8,000");
        vm.assertEq(court.creditOf(BURN) + court.creditOf(carol), 8 * uint256(STAKE) * 8 / 10);
    }

    function testFuzz_PenaltyFollowsFeeAndStake(uint96 fee, uint96 extra) public {
        fee = uint96(clamp(fee, 1000, 500 ether));
        extra = uint96(clamp(extra, 0, 90_000 ether));
        token.mint(worker(), extra);
        vm.prank(worker());
        registry.addStake(extra);
        Filing memory filing = filed(AuditMode.Always, fee);
        audited(filing, FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, BAD));
        uint256 stake = stakeOf(worker());
        executed(filing);
        uint256 wanted = 100 * uint256(fee) > stake / 20 ? 100 * uint256(fee) : stake / 20;
        if (wanted > stake) wanted = stake;
        vm.assertEq(stake - stakeOf(worker()), wanted);
        vm.assertEq(court.creditOf(BURN), wanted / 2);
        vm.assertEq(court.creditOf(carol), wanted * 3 / 10);
    }

    // ------------------------------------------------------------------ challenges

    function test_RequesterMayChallengeWithABond() public {
        Filing memory filing = filed(AuditMode.None);
        uint256 before = token.balanceOf(carol);
        vm.expectEmit(address(court));
        emit IArbiter.Challenged(idOf(filing), carol, BOND);
        vm.prank(carol);
        court.challenge(filing);
        vm.assertEq(before - token.balanceOf(carol), BOND);
        vm.assertEq(court.bonds(), BOND);
        assertState(filing.terms, TaskState.Held);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(court.creditOf(carol), BOND + 120 ether);
        vm.assertEq(court.bonds(), 0);
    }

    function test_LostBondGoesToThePool() public {
        Filing memory filing = filed(AuditMode.None);
        vm.prank(carol);
        court.challenge(filing);
        voted(idOf(filing), 3, votesOf(5, GOOD));
        executed(filing);
        vm.assertEq(court.creditOf(carol), 0);
        vm.assertEq(court.bonds(), 0);
        vm.assertEq(court.pool(), BOND - 5 * JUROR_FEE);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    function test_BondComesBackUndecided() public {
        Filing memory filing = filed(AuditMode.None);
        vm.prank(carol);
        court.challenge(filing);
        noJury(filing);
        executed(filing);
        vm.assertEq(court.creditOf(carol), BOND);
    }

    /// @dev A challenge in the middle of an audit takes effect at its end, whatever the auditors say.
    function test_ChallengeDuringAnAudit() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        vm.prank(carol);
        court.challenge(filing);
        assertPhase(filing, AuditPhase.Open);
        revealAs(nodeAt(1), filing, PASS, noise(1));
        revealAs(nodeAt(2), filing, PASS, noise(1));
        assertPhase(filing, DisputePhase.Voting);
        vm.assertTrue(court.auditOf(idOf(filing)).challenged);
    }

    function test_RevertWhen_ChallengedTwiceOrByAnother() public {
        Filing memory filing = filed(AuditMode.None);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NotRequester.selector, nodeAt(1), carol));
        vm.prank(nodeAt(1));
        court.challenge(filing);
        vm.prank(carol);
        court.challenge(filing);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.AlreadyChallenged.selector, idOf(filing)));
        vm.prank(carol);
        court.challenge(filing);
        Filing memory flagged = disputed(FLAG, FLAG);
        vm.expectRevert(
            abi.encodeWithSelector(IArbiter.UnexpectedAuditPhase.selector, idOf(flagged), AuditPhase.Disputed)
        );
        vm.prank(carol);
        court.challenge(flagged);
    }

    function test_RevertWhen_ChallengedTooLateOrWithWrongRoots() public {
        Filing memory filing = filed(AuditMode.None);
        filing.resultRoot = TRACE;
        vm.expectRevert(abi.encodeWithSelector(IArbiter.FilingMismatch.selector, idOf(filing)));
        vm.prank(carol);
        court.challenge(filing);
        filing.resultRoot = RESULT;
        uint40 closes = uint40(vm.getBlockTimestamp() + CHALLENGE);
        vm.warp(closes);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, idOf(filing), closes));
        vm.prank(carol);
        court.challenge(filing);
    }

    // ------------------------------------------------------------------ jurors

    function test_PartiesMayNotJudge() public {
        join(carol, STAKE);
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        summoned(id);
        skip(20);
        address[5] memory parties = [worker(), carol, nodeAt(1), nodeAt(2), bob];
        for (uint256 i; i < 5; ++i) {
            refuse(parties[i], id, abi.encodeWithSelector(IArbiter.NotEligible.selector, parties[i]));
        }
        commitVoteAs(nodeAt(3), id, BAD);
        refuse(nodeAt(3), id, abi.encodeWithSelector(IArbiter.NotEligible.selector, nodeAt(3)));
    }

    /// @dev The jury's round begins after the dispute was opened.
    function test_JurorsAreUnknownWhenTheDisputeOpens() public {
        Filing memory filing = disputed(FLAG, PASS);
        DisputeView memory dispute = court.disputeOf(idOf(filing));
        vm.assertTrue(dispute.round > beacon.roundAt(uint40(vm.getBlockTimestamp())));
        refuse(nodeAt(3), idOf(filing), abi.encodeWithSelector(IArbiter.SeedUnknown.selector, dispute.round));
    }

    function test_JurorsAreListed() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        summoned(id);
        commitVoteAs(nodeAt(5), id, GOOD);
        commitVoteAs(nodeAt(3), id, BAD);
        address[] memory jurors = court.jurorsOf(id, 0);
        vm.assertEq(jurors.length, 2);
        vm.assertEq(jurors[0], nodeAt(5));
        vm.assertEq(jurors[1], nodeAt(3));
        vm.assertEq(court.jurorsOf(id, 1).length, 0);
        (bool committed, uint8 vote) = court.ballotOf(id, 0, nodeAt(3));
        vm.assertTrue(committed);
        vm.assertEq(vote, 0);
        (committed,) = court.ballotOf(id, 0, nodeAt(4));
        vm.assertTrue(!committed);
    }

    function test_RevertWhen_AVoteIsCommittedWrongly() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        vm.expectRevert(IArbiter.EmptyCommitment.selector);
        vm.prank(nodeAt(3));
        court.commitVote(id, bytes32(0));
        bytes32 other = keccak256("no such task");
        refuse(
            nodeAt(3), other, abi.encodeWithSelector(IArbiter.UnexpectedDisputePhase.selector, other, DisputePhase.None)
        );
        summoned(id);
        for (uint256 i = 3; i < 8; ++i) {
            commitVoteAs(nodeAt(i), id, BAD);
        }
        refuse(nodeAt(8), id, abi.encodeWithSelector(IArbiter.SeatsTaken.selector, id));
        Filing memory late = disputed(FLAG, PASS);
        summoned(idOf(late));
        uint40 closes = court.disputeOf(idOf(late)).commitBy;
        vm.warp(closes + 1);
        refuse(nodeAt(3), idOf(late), abi.encodeWithSelector(IArbiter.TooLate.selector, idOf(late), closes));
    }

    function test_RevertWhen_AJurorIsNotDrawnYet() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        summoned(id);
        uint256 refused;
        for (uint256 i = 3; i < 14; ++i) {
            vm.prank(nodeAt(i));
            try court.commitVote(id, RESULT) {}
            catch (bytes memory reason) {
                if (bytes4(reason) == IArbiter.SortitionNotReached.selector) ++refused;
            }
        }
        vm.assertGe(refused, 1, "somebody must wait");
    }

    function test_RevertWhen_AVoteIsRevealedWrongly() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        summoned(id);
        for (uint256 i = 3; i < 7; ++i) {
            commitVoteAs(nodeAt(i), id, BAD);
        }
        uint40 commitBy = court.disputeOf(id).commitBy;
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooEarly.selector, id, commitBy + 1));
        revealVoteAs(nodeAt(3), id, BAD);
        commitVoteAs(nodeAt(7), id, BAD);
        uint8[4] memory unknown = [0, 4, 16, 255];
        for (uint256 i; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IArbiter.MeaningUnknown.selector, unknown[i]));
            revealVoteAs(nodeAt(3), id, unknown[i]);
        }
        bytes memory mismatch = abi.encodeWithSelector(IArbiter.CommitmentMismatch.selector, nodeAt(3));
        vm.expectRevert(mismatch);
        revealVoteAs(nodeAt(3), id, GOOD);
        vm.expectRevert(mismatch);
        vm.prank(nodeAt(3));
        court.revealVote(id, BAD, bytes32(0));
        vm.expectRevert(abi.encodeWithSelector(IArbiter.CommitmentMismatch.selector, nodeAt(8)));
        revealVoteAs(nodeAt(8), id, BAD);
        revealVoteAs(nodeAt(3), id, BAD);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.AlreadyRevealed.selector, nodeAt(3)));
        revealVoteAs(nodeAt(3), id, BAD);
        uint40 revealBy = court.disputeOf(id).revealBy;
        vm.warp(revealBy + 1);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooLate.selector, id, revealBy));
        revealVoteAs(nodeAt(4), id, BAD);
    }

    /// @dev Seats taken early bring the reveal forward, so that a full jury is quick.
    function test_FullJuryRevealsAtOnce() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        summoned(id);
        for (uint256 i = 3; i < 8; ++i) {
            commitVoteAs(nodeAt(i), id, BAD);
        }
        vm.assertEq(court.disputeOf(id).revealBy, vm.getBlockTimestamp() + VOTE_REVEAL);
        revealVoteAs(nodeAt(3), id, BAD);
        vm.assertEq(court.disputeOf(id).bad, 1);
    }

    function test_MissingRevealCostsStake() public {
        funded();
        Filing memory filing = disputed(FLAG, FLAG);
        bytes32 id = idOf(filing);
        summoned(id);
        for (uint256 i = 3; i < 8; ++i) {
            commitVoteAs(nodeAt(i), id, BAD);
        }
        for (uint256 i = 3; i < 6; ++i) {
            revealVoteAs(nodeAt(i), id, BAD);
        }
        uint40 revealBy = court.disputeOf(id).revealBy;
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooEarly.selector, id, revealBy + 1));
        court.tally(id);
        vm.warp(revealBy + 1);
        court.tally(id);
        vm.assertEq(uint8(court.disputeOf(id).outcome), uint8(DisputeOutcome.Guilty));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(5)), 2 * STAKE);
        vm.assertEq(stakeOf(nodeAt(6)), 2 * STAKE - JUROR_PENALTY);
        vm.assertEq(stakeOf(nodeAt(7)), 2 * STAKE - JUROR_PENALTY);
    }

    /// @dev One vote short of the quorum convicts nobody.
    function testFuzz_OnlyAQuorumDecides(uint256 seed) public {
        Filing memory filing = disputed(FLAG, PASS);
        uint8[] memory votes = new uint8[](5);
        uint256 good;
        uint256 bad;
        for (uint256 i; i < 5; ++i) {
            votes[i] = uint8(1 + (seed >> (8 * i)) % 3);
            if (votes[i] == GOOD) ++good;
            if (votes[i] == BAD) ++bad;
        }
        voted(idOf(filing), 3, votes);
        DisputeOutcome wanted =
            bad >= 3 ? DisputeOutcome.Guilty : good >= 3 ? DisputeOutcome.Innocent : DisputeOutcome.Undecided;
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(wanted));
        executed(filing);
        vm.assertTrue((stakeOf(worker()) < 8 * STAKE) == (bad >= 3), "slashed without a quorum");
    }

    /// @dev No juror came, and no seed either: time alone ends it.
    function test_DisputeEndsWithoutAnyJuror() public {
        Filing memory filing = disputed(FLAG, PASS);
        uint256 before = board.balanceOf(carol);
        noJury(filing);
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(DisputeOutcome.Undecided));
        executed(filing);
        vm.assertEq(board.balanceOf(carol) - before, FEE);
    }

    // ------------------------------------------------------------------ appeals

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
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY);
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

    function test_UndecidedAppealGivesTheBondBack() public {
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        noJury(filing);
        appealAs(worker(), id);
        noJury(filing);
        court.execute(filing);
        vm.assertEq(court.creditOf(worker()), 3 * BOND);
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
    }

    /// @dev Else a guilty node would only need a second jury that is too small, or divided, to walk away for nothing.
    function test_VerdictStandsWhenNobodyJudgesTheAppeal() public {
        funded();
        Filing memory filing = disputed(FLAG, PASS);
        bytes32 id = idOf(filing);
        voted(id, 3, votesOf(5, BAD));
        appealAs(worker(), id);
        vm.assertEq(uint8(court.disputeOf(id).outcome), uint8(DisputeOutcome.Guilty), "stands until it is overturned");
        noJury(filing);
        vm.assertEq(uint8(court.disputeOf(id).outcome), uint8(DisputeOutcome.Guilty));
        court.execute(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE - PENALTY);
        vm.assertEq(court.creditOf(worker()), 0, "the bond of a lost appeal");
        vm.assertEq(court.creditOf(nodeAt(3)), JUROR_FEE, "who judged as it stands");
        vm.assertEq(court.bonds(), 0);
    }

    function test_VerdictStandsWhenTheAppealIsDivided() public {
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
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY);
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
        revealAs(nodeAt(1), filing, PASS, noise(1));
        revealAs(nodeAt(2), filing, FLAG, noise(1));
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

    // ------------------------------------------------------------------ steps of these tests

    function disputed(uint8 first, uint8 second) private returns (Filing memory filing) {
        filing = filed(AuditMode.Always);
        audited(filing, first, second);
        assertPhase(filing, AuditPhase.Disputed);
    }

    function convicted() private {
        Filing memory filing = disputed(FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
    }

    /// @dev A pool that can pay everybody.
    function funded() private returns (uint256) {
        Filing memory filing = filed(AuditMode.None, 200 ether);
        skip(CHALLENGE);
        board.settle(one(filing.terms));
        court.collect();
        return court.pool();
    }

    function noJury(Filing memory filing) private {
        DisputeView memory dispute = court.disputeOf(idOf(filing));
        vm.warp(dispute.commitBy + 1);
        court.tally(idOf(filing));
    }

    /// @dev Every step in its last second.
    function slowJury(bytes32 id, uint256 first, uint8 vote) private {
        summoned(id);
        for (uint256 i; i < 4; ++i) {
            commitVoteAs(nodeAt(first + i), id, vote);
        }
        DisputeView memory dispute = court.disputeOf(id);
        vm.warp(dispute.commitBy);
        commitVoteAs(nodeAt(first + 4), id, vote);
        dispute = court.disputeOf(id);
        vm.warp(dispute.revealBy);
        for (uint256 i; i < 5; ++i) {
            revealVoteAs(nodeAt(first + i), id, vote);
        }
        skip(10);
        court.tally(id);
        if (dispute.level == 0) vm.warp(court.disputeOf(id).appealBy);
    }

    function appealAs(address who, bytes32 id) private {
        token.mint(who, 3 * BOND);
        vm.prank(who);
        token.approve(address(court), 3 * BOND);
        vm.expectEmit(address(court));
        emit IArbiter.Appealed(id, who);
        vm.prank(who);
        court.appeal(id);
        if (who == carol) {
            vm.prank(carol);
            token.approve(address(court), type(uint256).max);
        }
    }

    function lost(address who, bytes32 id) private {
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NotLosingParty.selector, who));
        vm.prank(who);
        court.appeal(id);
    }

    function refuse(address who, bytes32 id, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(who);
        court.commitVote(id, RESULT);
    }
}
