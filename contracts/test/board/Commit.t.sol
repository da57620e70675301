// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

contract CommitTest is Fixture {
    address private node = nodeAt(0);

    function setUp() public override {
        super.setUp();
        fund(alice, 100 ether);
        join(node);
    }

    function test_Commit() public {
        Terms memory terms = claimed(alice, 0, node);
        skip(5);
        vm.expectEmit(address(board));
        emit ITaskBoard.Committed(
            board.taskIdOf(terms), node, RESULT, TRACE, uint40(vm.getBlockTimestamp() + CHALLENGE)
        );
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        (uint8 state, address who, uint40 since,) = board.taskOf(board.taskIdOf(terms));
        vm.assertEq(state, uint8(TaskState.Committed));
        vm.assertEq(who, node);
        vm.assertEq(since, vm.getBlockTimestamp());
    }

    /// @dev An executor that records no trace says so with a zero root.
    function test_CommitWithoutTrace() public {
        Terms memory terms = claimed(alice, 0, node);
        vm.prank(node);
        board.commit(terms, RESULT, bytes32(0));
        assertState(terms, TaskState.Committed);
    }

    function test_CommitWhileUnbonding() public {
        Terms memory terms = claimed(alice, 0, node);
        vm.prank(node);
        registry.beginUnbond();
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        assertState(terms, TaskState.Committed);
    }

    function test_RevertWhen_AnotherCommits() public {
        Terms memory terms = claimed(alice, 0, node);
        refuse(terms, bob, RESULT, abi.encodeWithSelector(ITaskBoard.NotClaimant.selector, bob, node));
    }

    function test_RevertWhen_ResultIsEmpty() public {
        Terms memory terms = claimed(alice, 0, node);
        refuse(terms, node, bytes32(0), abi.encodeWithSelector(ITaskBoard.EmptyResult.selector));
    }

    function test_RevertWhen_CommittedTwice() public {
        Terms memory terms = committed(alice, 0, node);
        refuse(
            terms,
            node,
            keccak256("another"),
            abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, board.taskIdOf(terms), TaskState.Committed)
        );
    }

    function test_CommitAtTheLastSecond() public {
        Terms memory terms = claimed(alice, 0, node);
        skip(120);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        assertState(terms, TaskState.Committed);
    }

    function test_RevertWhen_CommitWindowIsClosed() public {
        Terms memory terms = claimed(alice, 0, node);
        uint40 closes = uint40(vm.getBlockTimestamp() + 120);
        skip(121);
        refuse(
            terms, node, RESULT, abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, board.taskIdOf(terms), closes)
        );
    }

    function refuse(Terms memory terms, address who, bytes32 result, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(who);
        board.commit(terms, result, TRACE);
    }
}
