// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

/// @dev The room that the board leaves for an arbiter: hold, rule, and the way out when it does neither.
contract ArbiterTest is Fixture {
    address private node = nodeAt(0);

    function setUp() public override {
        super.setUp();
        fund(alice, 10 ether);
        join(node);
        setArbiters();
    }

    function test_HoldStopsSettlement() public {
        Terms memory terms = held();
        skip(CHALLENGE);
        vm.assertEq(board.settle(one(terms)), 0);
        assertState(terms, TaskState.Held);
        vm.assertEq(board.activeClaimsOf(node), 1);
    }

    function test_HoldEmitsItsEnd() public {
        Terms memory terms = committed(alice, 0, node);
        vm.expectEmit(address(board));
        emit ITaskBoard.TaskHeld(board.taskIdOf(terms), uint40(vm.getBlockTimestamp() + HOLD));
        vm.prank(arbiter);
        board.hold(terms);
    }

    function test_UpheldIsPaid() public {
        uint64 model = publish();
        Terms memory terms = committed(alice, model, node);
        vm.prank(arbiter);
        board.hold(terms);
        vm.prank(arbiter);
        board.rule(terms, true);
        assertState(terms, TaskState.Settled);
        vm.assertEq(board.balanceOf(node), 0.875 ether);
        vm.assertEq(board.balanceOf(publisher), 0.1 ether);
        vm.assertEq(board.balanceOf(treasury), 0.025 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    function test_RejectedIsRefunded() public {
        Terms memory terms = held();
        vm.prank(arbiter);
        board.rule(terms, false);
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(board.balanceOf(node), 0);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    /// @dev An arbiter that falls silent cannot keep money for ever; the node is not blamed for it.
    function test_HoldWithoutRulingIsRefunded() public {
        Terms memory terms = held();
        skip(HOLD + 1);
        board.expire(terms);
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        (,,,,, uint8 standing,) = registry.nodeOf(node);
        vm.assertEq(standing, 100);
    }

    function test_RevertWhen_RuledAfterTheHold() public {
        Terms memory terms = held();
        uint40 closes = uint40(vm.getBlockTimestamp() + HOLD);
        skip(HOLD + 1);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, board.taskIdOf(terms), closes));
        vm.prank(arbiter);
        board.rule(terms, true);
    }

    function test_RevertWhen_HeldAfterTheChallengeWindow() public {
        Terms memory terms = committed(alice, 0, node);
        uint40 closes = uint40(vm.getBlockTimestamp() + CHALLENGE);
        skip(CHALLENGE);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, board.taskIdOf(terms), closes));
        vm.prank(arbiter);
        board.hold(terms);
    }

    function test_RevertWhen_HeldTwice() public {
        Terms memory terms = held();
        vm.expectRevert(
            abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, board.taskIdOf(terms), TaskState.Held)
        );
        vm.prank(arbiter);
        board.hold(terms);
    }

    function test_RevertWhen_SomebodyElseHoldsOrRules() public {
        Terms memory terms = committed(alice, 0, node);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotArbiter.selector, admin));
        vm.prank(admin);
        board.hold(terms);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotArbiter.selector, node));
        vm.prank(node);
        board.rule(terms, true);
    }

    function test_RevertWhen_ArbiterIsSetAgain() public {
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.ArbiterAlreadySet.selector, arbiter));
        vm.prank(admin);
        board.setArbiter(bob);
    }

    function test_RevertWhen_AnotherSetsTheArbiter() public {
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotAdmin.selector, bob));
        vm.prank(bob);
        board.setArbiter(bob);
    }

    function test_RevertWhen_AnotherSetsAWeight() public {
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotRegistry.selector, admin));
        vm.prank(admin);
        board.setWeight(bob, 1, 0);
    }

    function held() private returns (Terms memory terms) {
        terms = committed(alice, 0, node);
        vm.prank(arbiter);
        board.hold(terms);
    }
}
