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

    /// @dev An upheld task goes the way of all others from there on, and at once.
    function test_UpheldMayBeSettledAtOnce() public {
        uint64 model = publish();
        Terms memory terms = committed(alice, model, node);
        vm.prank(arbiter);
        board.hold(terms);
        vm.expectEmit(address(board));
        emit ITaskBoard.Ruled(board.taskIdOf(terms), true);
        vm.prank(arbiter);
        vm.assertEq(board.rule(terms, true), 1);
        assertState(terms, TaskState.Committed);
        vm.assertEq(board.settle(one(terms)), 1);
        assertState(terms, TaskState.Settled);
        vm.assertEq(board.balanceOf(node), 0.875 ether);
        vm.assertEq(board.balanceOf(publisher), 0.1 ether);
        vm.assertEq(board.balanceOf(treasury), 0.025 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    function test_UpheldCannotBeHeldAgain() public {
        Terms memory terms = held();
        vm.prank(arbiter);
        board.rule(terms, true);
        bytes memory closed = abi.encodeWithSelector(
            ITaskBoard.WindowClosed.selector, board.taskIdOf(terms), uint40(vm.getBlockTimestamp())
        );
        vm.expectRevert(closed);
        vm.prank(arbiter);
        board.hold(terms);
    }

    /// @dev The roots stay provable from the commit to the end, through a hold.
    function test_CommitmentStays() public {
        bytes32 hash = keccak256(abi.encode(RESULT, TRACE));
        uint184 wanted = uint184(uint256(hash));
        Terms memory terms = claimed(alice, 0, node);
        bytes32 id = board.taskIdOf(terms);
        vm.assertEq(board.commitmentOf(id), 0);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        uint40 at = uint40(vm.getBlockTimestamp());
        vm.assertEq(board.commitmentOf(id), wanted);
        skip(1);
        vm.prank(arbiter);
        (uint24 index, uint184 commitment, uint40 committedAt) = board.hold(terms);
        vm.assertEq(index, 1);
        vm.assertEq(board.nodeAt(index), node);
        vm.assertEq(commitment, wanted);
        vm.assertEq(committedAt, at);
        vm.prank(arbiter);
        board.rule(terms, true);
        board.settle(one(terms));
        (uint8 state, address by, uint40 since, uint184 kept) = board.recordOf(id);
        vm.assertEq(state, uint8(TaskState.Settled));
        vm.assertEq(by, node);
        vm.assertEq(since, at + 1);
        vm.assertEq(kept, wanted);
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

    /// @dev Work in doubt: the arbiter has the fee, to burn it, and the node is free again.
    function test_ForfeitGivesNeitherSideTheFee() public {
        Terms memory terms = held();
        bytes32 id = board.taskIdOf(terms);
        uint256 before = board.balanceOf(alice);
        vm.expectEmit(address(board));
        emit ITaskBoard.Ruled(id, false);
        vm.expectEmit(address(board));
        emit ITaskBoard.Expired(id, node, 0);
        vm.prank(arbiter);
        (uint24 index, uint96 amount) = board.forfeit(terms);
        vm.assertEq(index, 1);
        vm.assertEq(amount, FEE);
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), before);
        vm.assertEq(board.balanceOf(node), 0);
        vm.assertEq(board.balanceOf(arbiter), FEE);
        vm.assertEq(board.activeClaimsOf(node), 0);
        vm.prank(arbiter);
        (index, amount) = board.forfeit(terms);
        vm.assertEq(index, 1);
        vm.assertEq(amount, 0, "once");
    }

    function test_ForfeitIsNothingToATaskThatIsNotHeld() public {
        Terms memory terms = submitted(alice, 0);
        vm.prank(arbiter);
        (uint24 index, uint96 amount) = board.forfeit(terms);
        vm.assertEq(index + amount, 0);
        assertState(terms, TaskState.Submitted);
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

    /// @dev An arbiter that comes too late cannot have a node paid any more, but can still end its own part.
    function test_RuledAfterTheHoldIsRefunded() public {
        Terms memory terms = held();
        skip(HOLD + 1);
        vm.expectEmit(address(board));
        emit ITaskBoard.Ruled(board.taskIdOf(terms), false);
        vm.prank(arbiter);
        board.rule(terms, true);
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), 10 ether);
    }

    /// @dev Without the terms the board can pay, but not refund.
    function test_UpholdPaysWithinTheHoldOnly() public {
        Terms memory terms = held();
        bytes32 id = board.taskIdOf(terms);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotArbiter.selector, alice));
        vm.prank(alice);
        board.uphold(id);
        uint256 before = vm.getBlockTimestamp();
        skip(HOLD + 1);
        vm.prank(arbiter);
        vm.assertEq(board.uphold(id), 1);
        assertState(terms, TaskState.Held);
        vm.warp(before + HOLD);
        vm.expectEmit(address(board));
        emit ITaskBoard.Ruled(id, true);
        vm.prank(arbiter);
        vm.assertEq(board.uphold(id), 1);
        assertState(terms, TaskState.Committed);
        vm.prank(arbiter);
        board.uphold(id);
        vm.assertEq(board.settle(one(terms)), 1);
        vm.prank(arbiter);
        board.uphold(id);
        assertState(terms, TaskState.Settled);
    }

    function test_UpholdIsNothingToATaskThatIsNotHeld() public {
        Terms memory terms = submitted(alice, 0);
        bytes32 id = board.taskIdOf(terms);
        vm.prank(arbiter);
        vm.assertEq(board.uphold(id), 0);
        assertState(terms, TaskState.Submitted);
    }

    function test_RulingOnATaskThatIsNotHeldDoesNothing() public {
        Terms memory terms = held();
        vm.prank(arbiter);
        board.rule(terms, false);
        uint256 before = board.balanceOf(alice);
        for (uint256 i; i < 2; ++i) {
            vm.prank(arbiter);
            vm.assertEq(board.rule(terms, i == 0), 1);
        }
        assertState(terms, TaskState.Expired);
        vm.assertEq(board.balanceOf(alice), before);
        Terms memory other = submitted(alice, 0);
        vm.prank(arbiter);
        vm.assertEq(board.rule(other, true), 0);
        assertState(other, TaskState.Submitted);
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
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotArbiter.selector, alice));
        vm.prank(alice);
        board.forfeit(terms);
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
