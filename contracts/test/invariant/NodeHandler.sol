// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {NodeState} from "../../src/interfaces/INodeRegistry.sol";
import {Actor} from "./Actor.sol";
import {World} from "./World.sol";

/// @dev Drives membership: nodes come, pause, grow, are slashed, and leave in the middle of tasks.
contract NodeHandler is Actor {
    uint96 private constant STAKE = 1000 ether;
    address private immutable arbiter;

    constructor(World world_, address arbiter_) Actor(world_) {
        arbiter = arbiter_;
    }

    function register(uint256 who, uint96 stake, uint256 time) external after_(time) {
        address node = nodeAt(who);
        if (stateOf(node) != NodeState.None) return;
        stake = uint96(clamp(stake, STAKE, 5 * uint256(STAKE)));
        give(node, stake);
        vm.prank(node);
        registry.register(abi.encodePacked(node), 0, stake);
        world.noteStake(stake);
    }

    function addStake(uint256 who, uint96 amount, uint256 time) external after_(time) {
        address node = nodeAt(who);
        NodeState state = stateOf(node);
        if (state != NodeState.Active && state != NodeState.Paused) return;
        amount = uint96(clamp(amount, 0, STAKE));
        give(node, amount);
        vm.prank(node);
        registry.addStake(amount);
        world.noteStake(amount);
    }

    function pauseOrResume(uint256 who, uint256 time) external after_(time) {
        address node = nodeAt(who);
        (,, uint96 stake,, uint8 state, uint8 standing,) = registry.nodeOf(node);
        if (state == uint8(NodeState.Active) && who % 3 == 0) {
            vm.prank(node);
            registry.pause();
        } else if (state == uint8(NodeState.Paused) && stake >= STAKE && standing >= 10) {
            vm.prank(node);
            registry.resume();
        }
    }

    function unbond(uint256 who, uint256 time) external after_(time) {
        address node = nodeAt(who);
        NodeState state = stateOf(node);
        if (who % 3 != 0 || (state != NodeState.Active && state != NodeState.Paused)) return;
        vm.prank(node);
        registry.beginUnbond();
    }

    /// @dev Always tries; the registry alone must know when not to.
    function leave(uint256 who, uint256 time) external after_(time) {
        address node = nodeAt(who);
        (,, uint96 stake,, uint8 state,, uint40 unbondAt) = registry.nodeOf(node);
        uint256 before = token.balanceOf(node);
        bool allowed =
            state == uint8(NodeState.Unbonding) && vm.getBlockTimestamp() >= unbondAt && world.unfinishedOf(node) == 0;
        vm.prank(node);
        try registry.withdrawStake() {
            vm.assertTrue(allowed, "stake left too early");
            vm.assertEq(token.balanceOf(node) - before, stake);
            world.noteUnstake(stake);
            world.noteStep("leave");
        } catch {
            vm.assertTrue(!allowed, "stake was kept too long");
        }
    }

    function slash(uint256 who, uint96 amount, uint256 time) external after_(time) {
        address node = nodeAt(who);
        (,, uint96 stake,,,,) = registry.nodeOf(node);
        vm.prank(arbiter);
        uint96 taken = registry.slash(node, uint96(clamp(amount, 0, STAKE / 4)), address(0xBEEF));
        vm.assertLe(taken, stake, "more was slashed than staked");
        world.noteSlash(taken);
    }

    function give(address node, uint256 amount) private {
        world.mint(node, amount);
        vm.prank(node);
        token.approve(address(registry), amount);
    }

    function stateOf(address node) private view returns (NodeState) {
        (,,,, uint8 state,,) = registry.nodeOf(node);
        return NodeState(state);
    }
}
