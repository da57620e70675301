// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {AuditDesk} from "./arbiter/AuditDesk.sol";
import {Court} from "./arbiter/Court.sol";
import {Purse} from "./arbiter/Purse.sol";
import {Rulebook} from "./arbiter/Rulebook.sol";
import {ArbiterRules} from "./interfaces/IArbiter.sol";
import {IBeacon} from "./interfaces/IBeacon.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ITaskBoard} from "./interfaces/ITaskBoard.sol";

/// @title Arbiter
/// @notice See `IArbiter`.
/// @dev Built in layers, one job each: `Rulebook` (rules), `Purse` (money), `AuditDesk` (audits), `Court` (disputes).
/// It has no admin, no pause and no upgrade.
contract Arbiter is Court {
    /// @param board_ Must name this contract as its treasury: deploy the board with the address that comes next, then
    /// this contract, then call `setArbiter` on both board and registry.
    constructor(
        IERC20 token_,
        ITaskBoard board_,
        INodeRegistry registry_,
        IBeacon beacon_,
        address treasury_,
        ArbiterRules memory rules
    ) Rulebook(rules) Purse(token_, board_, registry_, treasury_) AuditDesk(beacon_) {
        if (board_.treasury() != address(this)) revert NotTreasury(board_.treasury());
        uint256 longest = _longestDispute(_period);
        (uint32 challengeWindow,, uint32 holdWindow,,,,,,,,,) = board_.params();
        (,, uint32 unbondingPeriod,) = registry_.params();
        // An audit round begins up to a period after the commit; as much again for somebody to open the audit.
        _within(challengeWindow, 2 * uint256(_period), type(uint32).max);
        // The first auditor may come as late as the challenge window ends; the second still needs time.
        _within(_auditCommitWindow, uint256(challengeWindow) + _grace, type(uint32).max);
        _within(holdWindow, longest, type(uint32).max);
        _within(unbondingPeriod, longest, type(uint32).max);
    }
}
