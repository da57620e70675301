// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, DisputePhase, DisputeView, Filing, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev Who judges a dispute, and how votes are cast and counted.
contract JurorsTest is DisputeFixture {
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
        DisputeOutcome wanted = bad >= 3
            ? DisputeOutcome.Guilty
            : good >= 3 ? DisputeOutcome.Innocent : bad == 2 ? DisputeOutcome.Undecided : DisputeOutcome.Upheld;
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(wanted));
        executed(filing);
        vm.assertTrue((stakeOf(worker()) < 8 * STAKE) == (bad >= 3), "slashed without a quorum");
    }
}
