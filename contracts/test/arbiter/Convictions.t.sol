// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, Filing} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev A conviction that was appealed takes two quorums. Where nobody else can run the work, the lot now and then gives its
/// friends a whole jury: they would have the node's stake by one such gift, and it takes a second, larger one.
contract ConvictionsTest is DisputeFixture {
    uint256 private pool;

    /// @dev No slash, but no pay either, and the bond is the price of asking: with few nodes no second jury may ever be large
    /// enough, and who is guilty should not walk away for nothing.
    function test_NobodyJudgesTheAppeal() public {
        for (uint256 i; i < 2; ++i) {
            Filing memory filing = appealed(FLAG, PASS);
            uint256 requester = board.balanceOf(carol);
            if (i == 0) noJury(filing);
            else voted(idOf(filing), 8, votesOf(5, CANNOT_TELL));
            ends(filing);
            vm.assertEq(court.creditOf(BURN), (i + 1) * FEE);
            vm.assertEq(board.balanceOf(carol), requester, "doubt pays no requester");
            vm.assertEq(court.passedOf(worker()), 0);
        }
    }

    /// @dev One vote short of a quorum is none.
    function test_AlmostAQuorumLeavesDoubt() public {
        Filing memory filing = appealed(FLAG, FLAG);
        uint8[] memory votes = votesOf(5, BAD);
        (votes[0], votes[1]) = (CANNOT_TELL, GOOD);
        voted(idOf(filing), 8, votes);
        ends(filing);
    }

    function test_ASecondQuorumOfGoodClears() public {
        Filing memory filing = appealed(FLAG, PASS);
        voted(idOf(filing), 8, votesOf(5, GOOD));
        court.execute(filing);
        vm.assertEq(court.creditOf(worker()), 3 * BOND, "it has what it hoped for");
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    function test_ASecondQuorumSlashes() public {
        Filing memory filing = appealed(FLAG, PASS);
        uint8[] memory votes = votesOf(5, BAD);
        votes[0] = GOOD;
        voted(idOf(filing), 8, votes);
        court.execute(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE - PENALTY);
        vm.assertEq(court.creditOf(worker()), 0);
        vm.assertEq(court.creditOf(nodeAt(3)), JUROR_FEE);
        vm.assertEq(court.creditOf(nodeAt(9)), JUROR_FEE);
    }

    function test_WithoutAnAppealOneQuorumIsEnough() public {
        Filing memory filing = disputed(FLAG, PASS);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE - PENALTY);
    }

    /// @dev Who challenged had a quorum, and was not heard by the second: it has not lost.
    function test_TheChallengersBondComesBack() public {
        pool = funded();
        Filing memory filing = filed(AuditMode.None);
        vm.prank(carol);
        court.challenge(filing);
        voted(idOf(filing), 3, votesOf(5, BAD));
        appealAs(worker(), idOf(filing));
        noJury(filing);
        court.execute(filing);
        vm.assertEq(court.creditOf(carol), BOND);
        vm.assertEq(court.creditOf(worker()), 0);
        vm.assertEq(court.pool(), pool + 3 * BOND, "no juror is paid");
        assertState(filing.terms, TaskState.Expired);
    }

    /// @dev Whatever the second jury says: stake moves by a quorum of it or not at all, and without one no vote is paid.
    function testFuzz_NoStakeWithoutASecondQuorum(uint256 seed) public {
        Filing memory filing = appealed(seed % 2 == 0 ? FLAG : WITHHELD, (seed >> 8) % 2 == 0 ? PASS : FLAG);
        bytes32 id = idOf(filing);
        uint8[] memory votes = votesOf(5, CANNOT_TELL);
        uint256 bad;
        uint256 good;
        for (uint256 i; i < 5; ++i) {
            votes[i] = uint8(1 + (seed >> (16 + 8 * i)) % 3);
            if (votes[i] == BAD) ++bad;
            if (votes[i] == GOOD) ++good;
        }
        voted(id, 8, votes);
        court.execute(filing);
        vm.assertEq(stakeOf(worker()), bad >= 4 ? 8 * STAKE - PENALTY : 8 * STAKE, "the node");
        vm.assertEq(court.creditOf(worker()), good >= 4 ? 3 * BOND : 0, "its bond");
        assertState(filing.terms, good >= 4 ? TaskState.Committed : TaskState.Expired);
        if (bad >= 4 || good >= 4) return;
        for (uint256 i = 3; i < 13; ++i) {
            vm.assertEq(court.creditOf(nodeAt(i)), 0, "a vote paid without a verdict");
            vm.assertEq(stakeOf(nodeAt(i)), 2 * STAKE, "or charged for");
        }
    }

    function appealed(uint8 first, uint8 second) private returns (Filing memory filing) {
        pool = funded();
        filing = disputed(first, second);
        voted(idOf(filing), 3, votesOf(5, BAD));
        appealAs(worker(), idOf(filing));
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(DisputeOutcome.Guilty), "until it is counted");
    }

    function ends(Filing memory filing) private {
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(DisputeOutcome.Undecided), "outcome");
        court.execute(filing);
        assertState(filing.terms, TaskState.Expired);
        vm.assertEq(court.creditOf(worker()), 0, "the bond of a lost appeal");
        for (uint256 i; i < nodeCount(); ++i) {
            vm.assertEq(stakeOf(nodeAt(i)), i == 0 ? 8 * STAKE : 2 * STAKE, "stake moved");
        }
        for (uint256 i = 3; i < 13; ++i) {
            vm.assertEq(court.creditOf(nodeAt(i)), 0, "a vote paid without a verdict");
        }
        vm.assertEq(court.bonds(), 0);
    }
}
