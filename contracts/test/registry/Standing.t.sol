// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {INodeRegistry, NodeState} from "../../src/interfaces/INodeRegistry.sol";
import {Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

/// @dev What a node loses by failing: standing, and, by the arbiter's hand, stake.
contract StandingTest is Fixture {
    address private node = nodeAt(0);

    function setUp() public override {
        super.setUp();
        fund(alice, 100 ether);
        join(node);
        setArbiters();
    }

    function test_StandingFallsAndRecovers() public {
        fail();
        vm.assertEq(standing(), 90);
        skip(3 hours);
        vm.assertEq(standing(), 93);
        fail();
        vm.assertEq(standing(), 83);
        skip(1000 hours);
        vm.assertEq(standing(), 100);
    }

    function test_NodeThatKeepsFailingIsPaused() public {
        for (uint256 i; i < 10; ++i) {
            fail();
        }
        vm.assertEq(standing(), 0);
        vm.assertEq(state(), uint8(NodeState.Paused));
        vm.assertEq(registry.totalWeight(), 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StandingTooLow.selector, 0, 10));
        vm.prank(node);
        registry.resume();
        skip(10 hours);
        vm.prank(node);
        registry.resume();
        vm.assertEq(registry.weightOf(node), 1);
    }

    function test_RevertWhen_SomebodyElseRecordsAnExpiry() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotBoard.selector, arbiter));
        vm.prank(arbiter);
        registry.recordExpiry(node);
    }

    function test_Slash() public {
        vm.expectEmit(address(registry));
        emit INodeRegistry.Slashed(node, 1 ether, alice);
        vm.prank(arbiter);
        vm.assertEq(registry.slash(node, 1 ether, alice), 1 ether);
        vm.assertEq(token.balanceOf(alice), 1 ether);
        vm.assertEq(stakeOf(node), STAKE - 1 ether);
        vm.assertEq(state(), uint8(NodeState.Paused));
        vm.assertEq(registry.totalWeight(), 0);
    }

    function test_SlashLeavesARichNodeActive() public {
        join(nodeAt(1), 5 * STAKE);
        vm.prank(arbiter);
        registry.slash(nodeAt(1), STAKE + 1, alice);
        vm.assertEq(registry.weightOf(nodeAt(1)), 3);
        vm.assertEq(registry.totalWeight(), 4);
    }

    /// @dev Stake under unbonding stays slashable to the end of the window.
    function testFuzz_SlashOfUnbondingNodeTakesNoMoreThanItsStake(uint96 amount) public {
        vm.prank(node);
        registry.beginUnbond();
        skip(UNBONDING);
        uint256 expected = amount < STAKE ? amount : STAKE;
        vm.prank(arbiter);
        vm.assertEq(registry.slash(node, amount, alice), expected);
        vm.prank(node);
        registry.withdrawStake();
        vm.assertEq(token.balanceOf(node), STAKE - expected);
        vm.assertEq(token.balanceOf(alice), expected);
    }

    function test_SlashedNodeMayTopUpAndResume() public {
        vm.prank(arbiter);
        registry.slash(node, 1 ether, alice);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, STAKE - 1 ether, STAKE));
        vm.prank(node);
        registry.resume();
        token.mint(node, 1 ether);
        vm.prank(node);
        registry.addStake(1 ether);
        vm.assertEq(registry.totalWeight(), 0);
        vm.prank(node);
        registry.resume();
        vm.assertEq(registry.totalWeight(), 1);
    }

    function test_RevertWhen_SomebodyElseSlashes() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotArbiter.selector, admin));
        vm.prank(admin);
        registry.slash(node, 1, admin);
    }

    function test_RevertWhen_RolesAreSetAgain() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.RoleAlreadySet.selector, address(board)));
        vm.prank(admin);
        registry.setBoard(bob);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.RoleAlreadySet.selector, arbiter));
        vm.prank(admin);
        registry.setArbiter(bob);
    }

    function test_RevertWhen_AnotherSetsRoles() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotAdmin.selector, bob));
        vm.prank(bob);
        registry.setBoard(bob);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotAdmin.selector, bob));
        vm.prank(bob);
        registry.setArbiter(bob);
    }

    /// @dev Lets one claimed task of the node expire.
    function fail() private {
        Terms memory terms = claimed(alice, 0, node);
        skip(121);
        board.expire(terms);
    }

    function standing() private view returns (uint8 value) {
        (,,,,, value,) = registry.nodeOf(node);
    }

    function state() private view returns (uint8 value) {
        (,,,, value,,) = registry.nodeOf(node);
    }

    function stakeOf(address who) private view returns (uint96 value) {
        (,, value,,,,) = registry.nodeOf(who);
    }
}
