// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

/// @dev Cancel and expire: the ways in which money goes back.
contract RefundTest is Fixture {
    address private node = nodeAt(0);

    function setUp() public override {
        super.setUp();
        fund(alice, 10 ether);
        join(node);
    }

    function test_Cancel() public {
        Terms memory terms = submitted(alice, 0);
        skip(CANCEL_DELAY);
        vm.expectEmit(address(board));
        emit ITaskBoard.Cancelled(board.taskIdOf(terms), FEE);
        vm.prank(alice);
        board.cancel(terms);
        assertState(terms, TaskState.Cancelled);
        vm.assertEq(board.balanceOf(alice), 10 ether);
    }

    function test_RevertWhen_SomebodyElseCancels() public {
        Terms memory terms = submitted(alice, 0);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotRequester.selector, bob, alice));
        vm.prank(bob);
        board.cancel(terms);
    }

    function test_RevertWhen_CancelledWithinTheDelay() public {
        Terms memory terms = submitted(alice, 0);
        uint40 opens = uint40(vm.getBlockTimestamp()) + CANCEL_DELAY;
        skip(CANCEL_DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.TooEarly.selector, board.taskIdOf(terms), opens));
        vm.prank(alice);
        board.cancel(terms);
        // Nor does the delay keep a node from claiming, nor a claim from being final.
        waitForTurn(terms, node);
        vm.prank(node);
        board.claim(terms);
        expectUnexpected(terms, TaskState.Claimed);
        vm.prank(alice);
        board.cancel(terms);
    }

    function test_CancelInTheFirstSecondAfterTheDelay() public {
        Terms memory terms = submitted(alice, 0);
        skip(CANCEL_DELAY);
        vm.prank(alice);
        board.cancel(terms);
        assertState(terms, TaskState.Cancelled);
    }

    function test_RevertWhen_CancelledAfterClaim() public {
        Terms memory terms = claimed(alice, 0, node);
        expectUnexpected(terms, TaskState.Claimed);
        vm.prank(alice);
        board.cancel(terms);
    }

    function test_RevertWhen_CancelledTwice() public {
        Terms memory terms = submitted(alice, 0);
        skip(CANCEL_DELAY);
        vm.prank(alice);
        board.cancel(terms);
        expectUnexpected(terms, TaskState.Cancelled);
        vm.prank(alice);
        board.cancel(terms);
    }

    function test_ExpireUnclaimed() public {
        Terms memory terms = submitted(alice, 0);
        skip(601);
        vm.expectEmit(address(board));
        emit ITaskBoard.Expired(board.taskIdOf(terms), address(0), FEE);
        vm.prank(bob);
        board.expire(terms);
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(standingOf(node), 100);
    }

    function test_RevertWhen_UnclaimedExpiresEarly() public {
        Terms memory terms = submitted(alice, 0);
        uint40 opens = uint40(vm.getBlockTimestamp() + 601);
        skip(600);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.TooEarly.selector, board.taskIdOf(terms), opens));
        board.expire(terms);
    }

    function test_ExpireClaimed() public {
        Terms memory terms = claimed(alice, 0, node);
        skip(121);
        vm.expectEmit(address(board));
        emit ITaskBoard.Expired(board.taskIdOf(terms), node, FEE);
        vm.expectEmit(address(registry));
        emit INodeRegistry.StandingChanged(node, 90);
        board.expire(terms);
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
        vm.assertEq(standingOf(node), 90);
    }

    function test_RevertWhen_ClaimedExpiresEarly() public {
        Terms memory terms = claimed(alice, 0, node);
        uint40 opens = uint40(vm.getBlockTimestamp() + 121);
        skip(120);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.TooEarly.selector, board.taskIdOf(terms), opens));
        board.expire(terms);
    }

    /// @dev A node that leaves with tasks open must not be able to block their refund.
    function test_ExpireOfLeavingNode() public {
        Terms memory terms = claimed(alice, 0, node);
        vm.prank(node);
        registry.beginUnbond();
        skip(UNBONDING);
        board.expire(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.prank(node);
        registry.withdrawStake();
        vm.assertEq(token.balanceOf(node), STAKE);
    }

    function test_RevertWhen_CommittedExpires() public {
        Terms memory terms = committed(alice, 0, node);
        skip(10_000);
        expectUnexpected(terms, TaskState.Committed);
        board.expire(terms);
    }

    function test_RevertWhen_SettledIsRefunded() public {
        Terms memory terms = settled(alice, 0, node);
        skip(10_000);
        expectUnexpected(terms, TaskState.Settled);
        board.expire(terms);
        expectUnexpected(terms, TaskState.Settled);
        vm.prank(alice);
        board.cancel(terms);
    }

    function test_RevertWhen_ExpiredTwice() public {
        Terms memory terms = claimed(alice, 0, node);
        skip(200);
        board.expire(terms);
        expectUnexpected(terms, TaskState.Expired);
        board.expire(terms);
    }

    function standingOf(address who) private view returns (uint8 standing) {
        (,,,,, standing,) = registry.nodeOf(who);
    }

    function expectUnexpected(Terms memory terms, TaskState state) private {
        bytes32 taskId = board.taskIdOf(terms);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, taskId, state));
    }
}
