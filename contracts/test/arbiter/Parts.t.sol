// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, Filing} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {commitmentOfRoots} from "../../src/libraries/TaskWord.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Audits and disputes of a training that ended early: the share outlives them, and guilt costs by the whole fee.
contract AuditedPartsTest is AuditFixture {
    uint16 private constant QUARTER = 2500;

    function test_APassedPartIsPaidAsAPart() public {
        Filing memory filing = filedPart(FEE);
        uint256 before = board.balanceOf(carol);
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        assertState(filing.terms, TaskState.Held);
        assertShare(filing, "jurors and auditors can read it");
        revealAs(nodeAt(1), filing, PASS, noise(1));
        revealAs(nodeAt(2), filing, PASS, noise(1));
        assertState(filing.terms, TaskState.Committed);
        assertQuarterPaid(filing, before);
        assertShare(filing, "for ever");
    }

    function test_AnInnocentPartIsPaidAsAPart() public {
        Filing memory filing = filedPart(FEE);
        uint256 before = board.balanceOf(carol);
        judged(filing, PASS, GOOD);
        assertQuarterPaid(filing, before);
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
    }

    /// @dev The requester is made whole, and the penalty is that of the fee that the node had promised to work for.
    function test_AGuiltyPartReturnsTheWholeFee() public {
        Filing memory filing = filedPart(10 ether);
        uint256 before = board.balanceOf(carol);
        judged(filing, PASS, BAD);
        vm.assertEq(board.balanceOf(carol) - before, 10 ether);
        vm.assertEq(board.balanceOf(worker()), 0);
        vm.assertEq(stakeOf(worker()), 8 * STAKE - 1000 ether);
        vm.assertEq(board.settle(one(filing.terms)), 0);
    }

    /// @dev What the node did not claim to have done was never in doubt.
    function test_AnUndecidedPartReturnsItsRest() public {
        Filing memory filing = filedPart(FEE);
        uint256 before = board.balanceOf(carol);
        judged(filing, FLAG, CANNOT_TELL);
        vm.assertEq(board.balanceOf(carol) - before, FEE * 3 / 4);
        vm.assertEq(court.creditOf(BURN), FEE / 4);
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(DisputeOutcome.Undecided));
        vm.assertEq(stakeOf(worker()), 8 * STAKE);
    }

    /// @dev What nobody doubted with a second voice is paid for what it is.
    function test_AnUpheldPartIsPaidAsAPart() public {
        Filing memory filing = filedPart(FEE);
        uint256 before = board.balanceOf(carol);
        judged(filing, PASS, CANNOT_TELL);
        assertQuarterPaid(filing, before);
    }

    function filedPart(uint96 fee) private returns (Filing memory) {
        Terms memory terms = trainingOf(carol, model);
        (terms.audit, terms.fee) = (uint8(AuditMode.Always), fee);
        commitPartOf(terms, worker(), QUARTER);
        return Filing(terms, commitmentOfRoots(RESULT, TRACE));
    }

    function judged(Filing memory filing, uint8 second, uint8 vote) private {
        audited(filing, FLAG, second);
        voted(idOf(filing), 3, votesOf(5, vote));
        assertShare(filing, "jurors can read it");
        executed(filing);
    }

    function assertQuarterPaid(Filing memory filing, uint256 before) private {
        vm.assertEq(board.settle(one(filing.terms)), 1);
        vm.assertEq(board.balanceOf(worker()), 0.218_75 ether);
        vm.assertEq(board.balanceOf(carol) - before, 0.75 ether);
    }

    function assertShare(Filing memory filing, string memory what) private view {
        (uint16 doneBps,) = board.doneOf(idOf(filing));
        vm.assertEq(doneBps, QUARTER, what);
    }
}
