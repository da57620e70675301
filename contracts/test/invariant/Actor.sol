// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevToken} from "../../src/DevToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskBoard} from "../../src/TaskBoard.sol";
import {TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {CHEATCODES, Vm} from "../base/Vm.sol";
import {World} from "./World.sol";

/// @dev What both handlers share: the world, picks, and the clock.
abstract contract Actor {
    Vm internal constant vm = Vm(CHEATCODES);

    World internal immutable world;
    DevToken internal immutable token;
    NodeRegistry internal immutable registry;
    TaskBoard internal immutable board;

    constructor(World world_) {
        world = world_;
        (token, registry, board) = (world_.token(), world_.registry(), world_.board());
    }

    /// @dev Small steps of time everywhere, so that windows are hit from both sides.
    modifier after_(uint256 seconds_) {
        vm.warp(vm.getBlockTimestamp() + seconds_ % 45);
        _;
    }

    function requesterAt(uint256 seed) internal view returns (address) {
        return world.requesters(seed % 3);
    }

    function nodeAt(uint256 seed) internal view returns (address) {
        return world.nodes(seed % 4);
    }

    /// @dev A task in `state`, looked for from a random place on.
    function pick(uint256 seed, TaskState state) internal view returns (bool found, Terms memory terms, bytes32 id) {
        uint256 count = world.taskCount();
        for (uint256 i; i < count; ++i) {
            (terms, id) = world.taskAt((seed % count + i) % count);
            if (world.stateOf(id) == uint8(state)) return (true, terms, id);
        }
    }

    function sinceOf(bytes32 taskId) internal view returns (uint256 since) {
        (,, since,) = board.taskOf(taskId);
    }

    function clamp(uint256 value, uint256 least, uint256 greatest) internal pure returns (uint256) {
        return least + value % (greatest - least + 1);
    }
}
