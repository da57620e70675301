// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, Filing} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev A conviction that was appealed takes two quorums. Where nobody else can run the work, the lot now and then gives its
/// friends a whole jury: they would have the node's stake by one such gift, and it takes a second, larger one.
contract ConvictionsTest is DisputeFixture {
    uint256 private pool;

    function test_NobodyJudgesTheAppeal() public {
        Filing memory filing = appealed(FLAG, PASS);
        noJury(filing);
        ends(filing, DisputeOutcome.Unheard);
        vm.assertEq(court.creditOf(worker()), 3 * BOND, "it has what it hoped for");
        vm.assertEq(court.pool(), pool - AUDITOR_FEE, "nobody else gains: the pass is paid");
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    function test_ASecondJuryThatCannotTellClears() public {
        Filing memory filing = appealed(FLAG, PASS);
        voted(idOf(filing), 8, votesOf(5, CANNOT_TELL));
        ends(filing, DisputeOutcome.Upheld);
        vm.assertEq(court.creditOf(worker()), 3 * BOND);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    /// @dev Half of a quorum shares the verdict: no slash, but no pay either, and the bond is the price of asking.
    function test_HalfAQuorumLeavesDoubt() public {
        Filing memory filing = appealed(FLAG, PASS);
        uint8[] memory votes = votesOf(5, CANNOT_TELL);
        (votes[0], votes[1]) = (BAD, BAD);
        uint256 requester = board.balanceOf(carol);
        voted(idOf(filing), 8, votes);
        ends(filing, DisputeOutcome.Undecided);
        vm.assertEq(court.creditOf(worker()), 0, "the bond of a lost appeal");
        vm.assertEq(court.creditOf(BURN), FEE);
        vm.assertEq(board.balanceOf(carol), requester, "doubt pays no requester");
        vm.assertEq(court.passedOf(worker()), 0);
    }

    function test_TwoAccusersByLotLeaveDoubtToo() public {
        Filing memory filing = appealed(FLAG, FLAG);
        noJury(filing);
        ends(filing, DisputeOutcome.Undecided);
        vm.assertEq(court.creditOf(worker()), 0);
        assertState(filing.terms, TaskState.Expired);
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

    /// @dev A challenge that a second jury heard and did not share is lost, as it is before a first one.
    function test_TheChallengersBondFollowsTheSecondJury() public {
        for (uint256 i; i < 2; ++i) {
            pool = funded();
            Filing memory filing = filed(AuditMode.None);
            vm.prank(carol);
            court.challenge(filing);
            voted(idOf(filing), 3, votesOf(5, BAD));
            appealAs(worker(), idOf(filing));
            if (i == 0) voted(idOf(filing), 8, votesOf(5, CANNOT_TELL));
            else noJury(filing);
            uint256 before = court.creditOf(carol);
            court.execute(filing);
            vm.assertEq(court.creditOf(carol) - before, i == 0 ? 0 : BOND);
            vm.assertEq(court.pool(), pool + (i == 0 ? BOND : 0), "no juror is paid");
            assertState(filing.terms, TaskState.Committed);
        }
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
        bool doubt = bad < 4 && good < 4 && (bad >= 2 || (seed >> 8) % 2 == 1);
        vm.assertEq(court.creditOf(worker()), bad >= 4 || doubt ? 0 : 3 * BOND, "its bond");
        assertState(filing.terms, bad >= 4 || doubt ? TaskState.Expired : TaskState.Committed);
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

    function ends(Filing memory filing, DisputeOutcome wanted) private {
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(wanted), "outcome");
        court.execute(filing);
        for (uint256 i; i < nodeCount(); ++i) {
            vm.assertEq(stakeOf(nodeAt(i)), i == 0 ? 8 * STAKE : 2 * STAKE, "stake moved");
        }
        for (uint256 i = 3; i < 13; ++i) {
            vm.assertEq(court.creditOf(nodeAt(i)), 0, "a vote paid without a verdict");
        }
        vm.assertEq(court.bonds(), 0);
    }
}
