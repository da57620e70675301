// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    AuditOutcome,
    AuditPhase,
    AuditView,
    CreditReason,
    Filing,
    IArbiter,
    PenaltyReason
} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, ITaskBoard, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {BlockBeacon} from "../../src/BlockBeacon.sol";
import {commitmentOfRoots} from "../../src/libraries/TaskWord.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Audits up to their end or to a dispute.
contract AuditsTest is AuditFixture {
    // ------------------------------------------------------------------ opening

    /// @dev The round of a challenge begins after the commit, so its seed cannot be known when the roots are accepted.
    function test_ChallengeIsUnknownAtTheCommit() public {
        Filing memory filing = filed();
        (bytes32 value, uint64 round) = court.challengeOf(filing);
        vm.assertEq(value, bytes32(0));
        vm.assertEq(round, beacon.roundAt(uint40(vm.getBlockTimestamp())) + 1);
        vm.assertTrue(!court.picked(filing));
        vm.expectRevert(abi.encodeWithSelector(BlockBeacon.RoundAhead.selector, round, round - 1));
        beacon.resolve(round);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.SeedUnknown.selector, round));
        vm.prank(nodeAt(1));
        court.commitAudit(filing, RESULT);
    }

    function test_ChallengeBindsSeedTaskAndRoots() public {
        Filing memory filing = filed();
        bytes32 value = pokeFor(filing);
        (, uint64 round) = court.challengeOf(filing);
        bytes32 seed = beacon.seedOf(round);
        vm.assertEq(value, keccak256(abi.encode(seed, idOf(filing), commitmentOfRoots(RESULT, TRACE))));
        vm.assertTrue(court.picked(filing));
    }

    function test_FirstCommitmentHoldsTheTask() public {
        Filing memory filing = filed();
        bytes32 value = pokeFor(filing);
        (, uint64 round) = court.challengeOf(filing);
        waitForSeat(uint80(uint256(value)), idOf(filing), round, nodeAt(1), 2, 2);
        bytes32 commitment = sealOf(value, idOf(filing), nodeAt(1), noise(1));
        vm.expectEmit(address(court));
        emit IArbiter.AuditOpened(idOf(filing), nodeAt(1), value, round, beacon.startOf(round) + AUDIT_COMMIT);
        vm.prank(nodeAt(1));
        court.commitAudit(filing, commitment);
        assertState(filing.terms, TaskState.Held);
        AuditView memory audit = court.auditOf(idOf(filing));
        vm.assertEq(uint8(audit.phase), uint8(AuditPhase.Open));
        vm.assertEq(audit.round, round);
        vm.assertEq(audit.auditors[0], nodeAt(1));
        vm.assertEq(audit.auditors[1], address(0));
        (bytes32 kept,) = court.challengeOf(filing);
        vm.assertEq(kept, value, "the challenge stays what it was");
    }

    function test_RevertWhen_TheChallengeWindowIsOver() public {
        Filing memory filing = filed();
        uint40 closes = uint40(vm.getBlockTimestamp() + CHALLENGE);
        pokeFor(filing);
        vm.warp(closes);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, idOf(filing), closes));
        vm.prank(nodeAt(1));
        court.commitAudit(filing, RESULT);
    }

    function test_RevertWhen_TheFilingIsNotWhatWasCommitted() public {
        Filing memory filing = filed();
        pokeFor(filing);
        filing.commitment = commitmentOfRoots(TRACE, RESULT);
        refuse(nodeAt(1), filing, abi.encodeWithSelector(IArbiter.FilingMismatch.selector, idOf(filing)));
        filing.commitment = 0;
        refuse(nodeAt(1), filing, abi.encodeWithSelector(IArbiter.FilingMismatch.selector, idOf(filing)));
    }

    /// @dev The word knows the node and the draw, so that the second auditor may save calldata.
    function test_TheSecondSeatNeedsOnlyTheTerms() public {
        Filing memory filing = filed();
        bytes32 value = pokeFor(filing);
        (, uint64 round) = court.challengeOf(filing);
        commitAs(nodeAt(1), filing, noise(1));
        Filing memory bare;
        bare.terms = filing.terms;
        waitForSeat(uint80(uint256(value)), idOf(filing), round, worker(), 2, 2);
        refuse(worker(), bare, abi.encodeWithSelector(IArbiter.NotEligible.selector, worker()));
        refuse(carol, bare, abi.encodeWithSelector(IArbiter.NotEligible.selector, carol));
        waitForSeat(uint80(uint256(value)), idOf(filing), round, nodeAt(2), 2, 2);
        bytes32 commitment = sealOf(value, idOf(filing), nodeAt(2), noise(1));
        vm.expectEmit(address(court));
        emit IArbiter.AuditCommitted(idOf(filing), nodeAt(2));
        vm.prank(nodeAt(2));
        court.commitAudit(bare, commitment);
        AuditView memory audit = court.auditOf(idOf(filing));
        vm.assertEq(audit.auditors[0], nodeAt(1));
        vm.assertEq(audit.auditors[1], nodeAt(2));
        revealAs(nodeAt(2), filing, PASS, noise(1));
        revealAs(nodeAt(1), filing, PASS, noise(1));
        vm.assertEq(court.passedOf(worker()), 1);
    }

    function test_RevertWhen_NothingIsCommitted() public {
        Filing memory filing = filed();
        vm.expectRevert(IArbiter.EmptyCommitment.selector);
        vm.prank(nodeAt(1));
        court.commitAudit(filing, bytes32(0));
    }

    function test_RevertWhen_APartyAudits() public {
        join(carol, STAKE);
        Filing memory filing = filed();
        pokeFor(filing);
        skip(20);
        refuse(worker(), filing, abi.encodeWithSelector(IArbiter.NotEligible.selector, worker()));
        refuse(carol, filing, abi.encodeWithSelector(IArbiter.NotEligible.selector, carol));
        refuse(bob, filing, abi.encodeWithSelector(IArbiter.NotEligible.selector, bob));
        commitAs(nodeAt(1), filing, noise(1));
        refuse(nodeAt(1), filing, abi.encodeWithSelector(IArbiter.NotEligible.selector, nodeAt(1)));
    }

    /// @dev Nobody chooses oneself: before the threshold has grown, most are refused.
    function test_RevertWhen_NotDrawnYet() public {
        Filing memory filing = filed();
        pokeFor(filing);
        uint256 refused;
        for (uint256 i = 1; i < nodeCount(); ++i) {
            vm.prank(nodeAt(i));
            try court.commitAudit(filing, RESULT) {
                break;
            } catch (bytes memory reason) {
                vm.assertEq(bytes32(bytes4(reason)), bytes32(IArbiter.SortitionNotReached.selector));
                ++refused;
            }
        }
        vm.assertGe(refused, 1, "somebody must wait");
    }

    function test_RevertWhen_SeatsAreTaken() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        refuse(nodeAt(3), filing, abi.encodeWithSelector(IArbiter.SeatsTaken.selector, idOf(filing)));
    }

    function test_RevertWhen_TheSecondAuditorIsLate() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        uint40 closes = beacon.startOf(court.auditOf(idOf(filing)).round) + AUDIT_COMMIT;
        vm.warp(closes + 1);
        refuse(nodeAt(2), filing, abi.encodeWithSelector(IArbiter.TooLate.selector, idOf(filing), closes));
        vm.warp(closes);
        commitAs(nodeAt(2), filing, noise(1));
        vm.assertEq(court.auditOf(idOf(filing)).auditors[1], nodeAt(2));
    }

    /// @dev What a reorganisation brings to a fork with other parts would hold a seat that nobody can open.
    function testFuzz_RevertWhen_TheSealIsOfAnotherDraw(bytes32 other, bytes32 hidden, bool joining) public {
        Filing memory filing = filed();
        bytes32 value = pokeFor(filing);
        if (joining) commitAs(nodeAt(2), filing, noise(1));
        (, uint64 round) = court.challengeOf(filing);
        waitForSeat(uint80(uint256(value)), idOf(filing), round, nodeAt(1), 2, 2);
        bool same = uint80(uint256(other)) == uint80(uint256(value));
        bytes32 stale = bytes32((uint256(other) << 176) | (uint256(hidden) >> 80) | 1);
        if (!same) vm.expectRevert(abi.encodeWithSelector(IArbiter.SealOfAnotherDraw.selector, idOf(filing)));
        vm.prank(nodeAt(1));
        court.commitAudit(filing, stale);
        bytes32 fresh = bytes32((uint256(value) << 176) | (uint256(hidden) >> 80) | 1);
        vm.prank(nodeAt(1));
        if (!same) court.commitAudit(filing, fresh);
        vm.assertEq(court.auditOf(idOf(filing)).auditors[joining ? 1 : 0], nodeAt(1));
    }

    // ------------------------------------------------------------------ picking

    function test_NoneIsNeverPicked() public {
        Filing memory filing = filed(AuditMode.None, 200 ether);
        pokeFor(filing);
        vm.assertTrue(!court.picked(filing));
        skip(20);
        refuse(nodeAt(1), filing, abi.encodeWithSelector(IArbiter.NotPicked.selector, idOf(filing)));
    }

    // ------------------------------------------------------------------ reveals

    function test_AgreementPaysAuditorsAndFreesTheTask() public {
        for (uint256 i; i < 5; ++i) {
            settle(filed());
        }
        court.collect();
        Filing memory filing = filed(AuditMode.Always);
        uint256 pool = court.pool();
        audited(filing, PASS, PASS);
        assertPhase(filing, AuditPhase.None);
        assertState(filing.terms, TaskState.Committed);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE);
        vm.assertEq(court.creditOf(nodeAt(2)), AUDITOR_FEE);
        // The pool ran short, so that the fee for this audit came in with the payment.
        vm.assertEq(court.pool(), pool + AUDIT_FEE - 2 * AUDITOR_FEE);
        vm.assertEq(court.passedOf(worker()), 1);
        uint256 before = board.balanceOf(worker());
        vm.assertEq(board.settle(one(filing.terms)), 1);
        vm.assertEq(board.balanceOf(worker()) - before, 0.875 ether);
        assertPurse(2 * AUDITOR_FEE);
    }

    function test_RevealLogsEverything() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        vm.expectEmit(address(court));
        emit IArbiter.AuditRevealed(idOf(filing), nodeAt(1), PASS, EVIDENCE, PROFILE, noise(1));
        revealAs(nodeAt(1), filing, PASS, noise(1));
        vm.assertEq(uint8(court.auditOf(idOf(filing)).verdicts[0]), PASS);
        vm.expectEmit(address(court));
        emit IArbiter.AuditClosed(idOf(filing), uint8(AuditOutcome.Passed));
        revealAs(nodeAt(2), filing, PASS, noise(1));
    }

    /// @dev Who reveals last need not have the terms at hand; whoever closes brings them, and need not wait.
    function test_AContestedAuditIsClosedAtOnceByAnyone() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        revealAs(nodeAt(2), filing, PASS, noise(1));
        uint40 opens = beacon.startOf(court.auditOf(idOf(filing)).round) + AUDIT_COMMIT + AUDIT_REVEAL + 1;
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooEarly.selector, idOf(filing), opens));
        court.closeAudit(filing);
        revealAs(nodeAt(1), filing, FLAG, noise(1));
        assertPhase(filing, AuditPhase.Open);
        uint64 round = beacon.roundAt(uint40(vm.getBlockTimestamp())) + 1;
        vm.expectEmit(address(court));
        emit IArbiter.AuditClosed(idOf(filing), uint8(AuditOutcome.Disputed));
        vm.expectEmit(address(court));
        emit IArbiter.DisputeOpened(idOf(filing), nodeAt(1), 0, round);
        vm.prank(bob);
        court.closeAudit(filing);
        assertPhase(filing, AuditPhase.Disputed);
    }

    function test_OneAuditorDecidesWhenNoOtherCame() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        uint40 closes = beacon.startOf(court.auditOf(idOf(filing)).round) + AUDIT_COMMIT;
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooEarly.selector, idOf(filing), closes + 1));
        revealAs(nodeAt(1), filing, PASS, noise(1));
        vm.warp(closes + 1);
        revealAs(nodeAt(1), filing, PASS, noise(1));
        assertState(filing.terms, TaskState.Committed);
        vm.assertEq(court.passedOf(worker()), 1);
    }

    function test_RevertWhen_TheRevealIsNotWhatWasCommitted() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        mismatch(nodeAt(1), filing, noise(2), saltOf(nodeAt(1)));
        mismatch(nodeAt(1), filing, noise(1), saltOf(nodeAt(2)));
        mismatch(nodeAt(3), filing, noise(1), saltOf(nodeAt(1)));
        revealAs(nodeAt(1), filing, PASS, noise(1));
        mismatch(nodeAt(1), filing, noise(1), saltOf(nodeAt(1)));
    }

    /// @dev Whoever copies another's commitment cannot open it.
    function test_CopiedCommitmentCannotBeOpened() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        (bytes32 value,) = court.challengeOf(filing);
        bytes32 copied = sealOf(value, idOf(filing), nodeAt(1), noise(1));
        skip(20);
        vm.prank(nodeAt(2));
        court.commitAudit(filing, copied);
        revealAs(nodeAt(1), filing, PASS, noise(1));
        mismatch(nodeAt(2), filing, noise(1), saltOf(nodeAt(1)));
        mismatch(nodeAt(2), filing, noise(1), saltOf(nodeAt(2)));
    }

    function test_RevertWhen_TheVerdictMeansNothing() public {
        Filing memory filing = filed();
        for (uint8 verdict; verdict < 5; verdict += 4) {
            vm.expectRevert(abi.encodeWithSelector(IArbiter.MeaningUnknown.selector, verdict));
            revealAs(nodeAt(1), filing, verdict, noise(1));
        }
    }

    function test_RevertWhen_ThereIsNoAudit() public {
        Filing memory filing = filed();
        bytes memory none =
            abi.encodeWithSelector(IArbiter.UnexpectedAuditPhase.selector, idOf(filing), AuditPhase.None);
        vm.expectRevert(none);
        revealAs(nodeAt(1), filing, PASS, noise(1));
        vm.expectRevert(none);
        court.closeAudit(filing);
    }

    function test_RevertWhen_ThereWasAnAuditBefore() public {
        Filing memory filing = filed();
        audited(filing, PASS, PASS);
        uint40 closed = uint40(vm.getBlockTimestamp());
        refuse(nodeAt(3), filing, abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, idOf(filing), closed));
        board.settle(one(filing.terms));
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, idOf(filing), TaskState.Settled));
        vm.prank(carol);
        court.challenge(filing);
    }

    /// @dev Two auditors agree exactly when none of the first five numbers is further apart than the tolerance.
    function testFuzz_ProjectionsAreCompared(int16[5] memory left, int16[5] memory gaps, bool wide) public {
        bool apart;
        uint256 mine;
        uint256 theirs;
        for (uint256 i; i < 5; ++i) {
            int256 gap = wide ? int256(gaps[i]) : int256(gaps[i]) % 42;
            int256 other = int256(left[i]) + gap;
            if (other > type(int16).max || other < type(int16).min) other = left[i];
            gap = other - left[i];
            apart = apart || gap > int256(uint256(TOLERANCE)) || -gap > int256(uint256(TOLERANCE));
            mine = (mine << 16) | uint16(left[i]);
            theirs = (theirs << 16) | uint16(int16(other));
        }
        Filing memory filing = filed();
        audited(filing, PASS, PASS, bytes32(mine << 176), bytes32((theirs << 176) | 12_345));
        assertPhase(filing, apart ? AuditPhase.Disputed : AuditPhase.None);
    }

    // ------------------------------------------------------------------ missing reveals

    function test_NoShowLosesStakeAndTheOtherDecides() public {
        Filing memory filing = filed(AuditMode.Always);
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        revealAs(nodeAt(1), filing, PASS, noise(1));
        waitForClose(filing);
        vm.expectEmit(address(court));
        emit IArbiter.AuditorPenalised(idOf(filing), nodeAt(2), AUDITOR_PENALTY, uint8(PenaltyReason.MissingReveal));
        court.closeAudit(filing);
        vm.assertEq(stakeOf(nodeAt(2)), 2 * STAKE - AUDITOR_PENALTY);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE);
        vm.assertEq(court.creditOf(nodeAt(2)), 0);
        vm.assertEq(court.pool(), AUDITOR_PENALTY - AUDITOR_FEE);
        assertState(filing.terms, TaskState.Committed);
        assertPurse(AUDITOR_FEE);
    }

    function test_NobodyRevealedIsVoid() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        waitForClose(filing);
        vm.expectEmit(address(court));
        emit IArbiter.AuditClosed(idOf(filing), uint8(AuditOutcome.Void));
        court.closeAudit(filing);
        vm.assertEq(court.passedOf(worker()), 0);
        vm.assertEq(court.pool(), 2 * AUDITOR_PENALTY);
        settle(filing);
    }

    function test_RevertWhen_ClosedTooEarly() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        uint40 opens = beacon.startOf(court.auditOf(idOf(filing)).round) + AUDIT_COMMIT + AUDIT_REVEAL + 1;
        vm.warp(opens - 1);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.TooEarly.selector, idOf(filing), opens));
        court.closeAudit(filing);
        vm.warp(opens);
        court.closeAudit(filing);
    }

    /// @dev Chess clocks, not traps: who comes late but before anybody closed is heard.
    function test_LateRevealCountsUntilTheClose() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        waitForClose(filing);
        skip(30);
        revealAs(nodeAt(1), filing, PASS, noise(1));
        vm.assertEq(stakeOf(nodeAt(1)), 2 * STAKE);
    }

    /// @dev When everybody slept until the board refunded the task, the audit can still be ended, and pays nobody twice.
    function test_CloseAfterTheBoardRefunded() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        uint256 before = board.balanceOf(carol);
        skip(1001);
        board.expire(filing.terms);
        vm.assertEq(board.balanceOf(carol) - before, FEE);
        court.closeAudit(filing);
        vm.assertEq(board.balanceOf(carol) - before, FEE);
        assertState(filing.terms, TaskState.Expired);
        assertPhase(filing, AuditPhase.None);
    }

    /// @dev A ruling that comes after the hold window pays nobody: anyone refunds.
    function test_CloseAfterTheHoldRefunds() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        uint256 before = board.balanceOf(carol);
        skip(1001);
        court.closeAudit(filing);
        assertState(filing.terms, TaskState.Held);
        board.expire(filing.terms);
        vm.assertEq(board.balanceOf(carol) - before, FEE);
        assertState(filing.terms, TaskState.Expired);
    }

    // ------------------------------------------------------------------ steps of these tests

    function settle(Filing memory filing) private {
        skip(CHALLENGE);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    function waitForClose(Filing memory filing) private {
        uint64 round = court.auditOf(idOf(filing)).round;
        vm.warp(beacon.startOf(round) + AUDIT_COMMIT + AUDIT_REVEAL + 1);
    }

    function refuse(address who, Filing memory filing, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(who);
        court.commitAudit(filing, RESULT);
    }

    function mismatch(address who, Filing memory filing, bytes32 projection, bytes32 salt) private {
        bytes32 id = idOf(filing);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.CommitmentMismatch.selector, who));
        vm.prank(who);
        court.revealAudits(said(id, PASS, projection, salt));
    }
}
