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
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev What a quorum of jurors decides, and where the money goes.
contract VerdictsTest is DisputeFixture {
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

    /// @dev An honest flagger may stand alone before jurors that did not look: it pays them, and no whole penalty.
    function test_InnocentIsPaidAndFlaggersPayTheJury() public {
        uint256 pool = funded();
        Filing memory filing = disputed(FLAG, PASS);
        uint8[] memory votes = votesOf(5, GOOD);
        (votes[3], votes[4]) = (BAD, CANNOT_TELL);
        voted(idOf(filing), 3, votes);
        uint96 price = 5 * JUROR_FEE;
        vm.expectEmit(address(court));
        emit IArbiter.AuditorPenalised(idOf(filing), nodeAt(1), price, uint8(PenaltyReason.WrongVerdict));
        vm.expectEmit(address(court));
        emit IArbiter.JurorPenalised(idOf(filing), nodeAt(6), JUROR_PENALTY, uint8(PenaltyReason.Incoherent));
        executed(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
        assertState(filing.terms, TaskState.Committed);
        vm.assertEq(board.settle(one(filing.terms)), 1);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - price);
        vm.assertEq(court.creditOf(nodeAt(2)), AUDITOR_FEE);
        vm.assertEq(court.creditOf(nodeAt(5)), JUROR_FEE);
        vm.assertEq(stakeOf(nodeAt(6)), 2 * STAKE - JUROR_PENALTY);
        vm.assertEq(court.creditOf(nodeAt(7)), 0, "cannot tell is not paid");
        vm.assertEq(stakeOf(nodeAt(7)), 2 * STAKE, "cannot tell is not penalised");
        vm.assertEq(court.pool(), pool + price + JUROR_PENALTY - AUDITOR_FEE - 3 * JUROR_FEE);
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

    /// @dev Whatever the two say: together they pay the jury, so the pool loses nothing.
    function test_TwoAccusersOfGoodWorkShareTheJury() public {
        for (uint256 i; i < 2; ++i) {
            uint256 pool = funded();
            Filing memory filing = disputed(i == 0 ? FLAG : WITHHELD, FLAG);
            (uint256 first, uint256 second) = (stakeOf(nodeAt(1)), stakeOf(nodeAt(2)));
            voted(idOf(filing), 3, votesOf(5, GOOD));
            executed(filing);
            uint96 half = (5 * JUROR_FEE + 1) / 2;
            vm.assertEq(first - stakeOf(nodeAt(1)), half);
            vm.assertEq(second - stakeOf(nodeAt(2)), half);
            vm.assertEq(court.creditOf(nodeAt(1)), 0);
            vm.assertEq(court.pool(), pool + 2 * half - 5 * JUROR_FEE, "and the pool loses nothing");
            vm.assertEq(board.settle(one(filing.terms)), 1);
        }
    }

    /// @dev Nor is it cheap to share a flag without the work: the jurors say whose numbers are wrong.
    function test_TwoFlagsWithoutTheWorkCostAPenaltyEach() public {
        Filing memory filing = disputed(FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, GOOD | 4 | 8));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE - AUDITOR_PENALTY);
    }

    /// @dev Two that passed bad work are wrong each, and nobody shares that.
    function test_TwoPassesOfBadWorkCostAPenaltyEach() public {
        Filing memory filing = filed(AuditMode.Always);
        audited(filing, PASS, PASS, noise(1), noise(2));
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE - AUDITOR_PENALTY);
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

    /// @dev Else a ring audits itself, leaves the first jury empty, has its node appeal, and takes the second one's pay.
    function test_WhatANodeHadToAppealIsPaidByItsAccusers() public {
        for (uint256 i; i < 2; ++i) {
            uint256 pool = funded();
            uint8 word = i == 0 ? FLAG : WITHHELD;
            Filing memory filing = disputed(word, word);
            (uint256 first, uint256 second) = (stakeOf(nodeAt(1)), stakeOf(nodeAt(2)));
            noJury(filing);
            appealAs(worker(), idOf(filing));
            voted(idOf(filing), 8, votesOf(5, GOOD));
            executed(filing);
            uint96 half = (5 * JUROR_FEE + 1) / 2;
            vm.assertEq(first - stakeOf(nodeAt(1)), half);
            vm.assertEq(second - stakeOf(nodeAt(2)), half);
            vm.assertEq(court.pool(), pool + 2 * half - 5 * JUROR_FEE, "the pool pays none of it");
        }
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
}
