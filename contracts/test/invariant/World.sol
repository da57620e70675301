// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevToken} from "../../src/DevToken.sol";
import {Marketplace} from "../../src/Marketplace.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskBoard} from "../../src/TaskBoard.sol";
import {TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";

/// @dev What the handlers did, kept apart from what the contracts say: actors, tasks and ghost totals.
contract World {
    DevToken public immutable token;
    NodeRegistry public immutable registry;
    TaskBoard public immutable board;
    Marketplace public immutable marketplace;
    uint16 private immutable _protocolBps;

    address[] public requesters;
    /// @dev They never deposit: all that they ever have is royalties.
    address[] public publishers;
    address[] public nodes;
    Terms[] private _tasks;
    uint64[] private _bundles;

    /// @dev Moved across the border of the board and of the registry, base units.
    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public staked;
    uint256 public unstaked;
    uint256 public slashed;
    /// @dev How often a task was paid and refunded, by what happened to balances, not by what the board says.
    mapping(bytes32 taskId => uint256) public paid;
    mapping(bytes32 taskId => uint256) public refunded;
    mapping(bytes32 taskId => uint8) public ended;
    mapping(string step => uint256) public done;
    mapping(bytes32 taskId => uint16) public partOf;
    mapping(bytes32 taskId => bool) public isPart;
    /// @dev What publishers and treasury are due by the listings' own words, and what they took out.
    mapping(address account => uint256) public earned;
    mapping(address account => uint256) public taken;
    uint64[] private _sharers;

    constructor(DevToken token_, NodeRegistry registry_, TaskBoard board_) {
        (token, registry, board) = (token_, registry_, board_);
        marketplace = Marketplace(address(board_.marketplace()));
        (,,,,,,,, _protocolBps,,,) = board_.params();
        for (uint256 i; i < 3; ++i) {
            requesters.push(address(uint160(0x1000 + i)));
            publishers.push(address(uint160(0x3000 + i)));
        }
        for (uint256 i; i < 4; ++i) {
            nodes.push(address(uint160(0x2000 + i)));
        }
    }

    function mint(address to, uint256 amount) external {
        token.mint(to, amount);
    }

    // ------------------------------------------------------------------ the handlers' notes

    function noteTask(Terms calldata terms) external {
        _tasks.push(terms);
    }

    function noteDeposit(uint256 amount) external {
        deposited += amount;
    }

    function noteWithdrawal(address account, uint256 amount) external {
        withdrawn += amount;
        taken[account] += amount;
    }

    function noteShare(bytes32 taskId, uint16 doneBps) external {
        partOf[taskId] = doneBps;
        isPart[taskId] = true;
    }

    /// @dev Walks up from what a task names, without asking what the board asks.
    function noteShares(Terms calldata terms) external {
        uint256 due = dueOf(terms);
        earned[board.treasury()] += due * _protocolBps / 10_000;
        delete _sharers;
        uint64[] memory members = membersOf(terms.model);
        for (uint256 i; i < members.length; ++i) {
            for (uint64 id = members[i]; id != 0 && id <= marketplace.listingCount() && !shares(id);) {
                _sharers.push(id);
                (,,, id,,,,,) = marketplace.listingOf(id);
            }
        }
        uint256 asked;
        for (uint256 i; i < _sharers.length; ++i) {
            asked += royaltyOf(_sharers[i]);
        }
        uint256 most = marketplace.maxRoyaltyBps();
        for (uint256 i; i < _sharers.length; ++i) {
            uint256 bps = royaltyOf(_sharers[i]);
            if (asked > most) bps = bps * most / asked;
            (address owner,,,,,,,,) = marketplace.listingOf(_sharers[i]);
            earned[owner] += due * bps / 10_000;
        }
    }

    function noteBundle(uint64 id) external {
        _bundles.push(id);
    }

    /// @dev Any listing, none, one that is not there yet, or a bundle.
    function modelOf(uint64 seed) external view returns (uint64) {
        if (seed % 3 == 0 && _bundles.length != 0) return _bundles[seed / 3 % _bundles.length];
        return seed % (marketplace.listingCount() + 2);
    }

    function noteStake(uint256 amount) external {
        staked += amount;
    }

    function noteUnstake(uint256 amount) external {
        unstaked += amount;
    }

    function noteSlash(uint256 amount) external {
        slashed += amount;
    }

    function noteStep(string calldata step) external {
        done[step]++;
    }

    /// @dev One call credited `amount`; the task that ended in it must account for it.
    function noteEnd(bytes32 taskId, bool wasPaid) external {
        if (wasPaid) paid[taskId]++;
        else refunded[taskId]++;
        ended[taskId] = stateOf(taskId);
    }

    function membersOf(uint64 model) private view returns (uint64[] memory members) {
        members = marketplace.membersOf(model);
        if (members.length != 0) return members;
        members = new uint64[](1);
        members[0] = model;
    }

    function shares(uint64 id) private view returns (bool) {
        for (uint256 i; i < _sharers.length; ++i) {
            if (_sharers[i] == id) return true;
        }
        return false;
    }

    function royaltyOf(uint64 id) private view returns (uint16 bps) {
        (,,,, bps,,,,) = marketplace.listingOf(id);
    }

    // ------------------------------------------------------------------ sums

    /// @dev What all who worked share of a fee, by what the node said when it committed.
    function dueOf(Terms memory terms) public view returns (uint256) {
        bytes32 taskId = board.taskIdOf(terms);
        return isPart[taskId] ? uint256(terms.fee) * partOf[taskId] / 10_000 : terms.fee;
    }

    function taskCount() external view returns (uint256) {
        return _tasks.length;
    }

    function taskAt(uint256 i) public view returns (Terms memory, bytes32) {
        return (_tasks[i], board.taskIdOf(_tasks[i]));
    }

    function stateOf(bytes32 taskId) public view returns (uint8 state) {
        (state,,,) = board.taskOf(taskId);
    }

    /// @dev Every account that can hold an internal balance.
    function accounts() public view returns (address[] memory all) {
        all = new address[](11);
        for (uint256 i; i < 3; ++i) {
            all[i] = requesters[i];
            all[8 + i] = publishers[i];
        }
        for (uint256 i; i < 4; ++i) {
            all[3 + i] = nodes[i];
        }
        all[7] = board.treasury();
    }

    function balances() public view returns (uint256 sum) {
        address[] memory all = accounts();
        for (uint256 i; i < all.length; ++i) {
            sum += board.balanceOf(all[i]);
        }
    }

    function escrow() public view returns (uint256 sum) {
        for (uint256 i; i < _tasks.length; ++i) {
            (Terms memory terms, bytes32 taskId) = taskAt(i);
            if (isOpen(stateOf(taskId))) sum += terms.fee;
        }
    }

    function stakes() public view returns (uint256 sum) {
        for (uint256 i; i < nodes.length; ++i) {
            (,, uint96 stake,,,,) = registry.nodeOf(nodes[i]);
            sum += stake;
        }
    }

    /// @dev Claimed and not terminal, counted over the tasks.
    function unfinishedOf(address node) public view returns (uint256 count) {
        for (uint256 i; i < _tasks.length; ++i) {
            (, bytes32 taskId) = taskAt(i);
            (uint8 state, address who,,) = board.taskOf(taskId);
            if (who == node && isOpen(state)) ++count;
        }
    }

    function isOpen(uint8 state) public pure returns (bool) {
        return state == uint8(TaskState.Submitted) || state == uint8(TaskState.Claimed)
            || state == uint8(TaskState.Committed) || state == uint8(TaskState.Held);
    }
}
