// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BoardRules, ITaskBoard} from "../interfaces/ITaskBoard.sol";
import {IMarketplace} from "../interfaces/IMarketplace.sol";

/// @title Charter
/// @notice The board's rules and their hard ranges.
abstract contract Charter is ITaskBoard {
    IMarketplace public immutable marketplace;
    /// @inheritdoc ITaskBoard
    uint32 public immutable cancelDelay;

    uint32 internal immutable _challengeWindow;
    uint32 internal immutable _sortitionStep;
    uint32 internal immutable _holdWindow;
    uint32 internal immutable _claimsPerWeight;
    uint32 internal immutable _minClaimWindow;
    uint32 internal immutable _maxClaimWindow;
    uint32 internal immutable _minCommitWindow;
    uint32 internal immutable _maxCommitWindow;
    uint16 internal immutable _protocolFeeBps;
    uint16 internal immutable _maxRoyaltyBps;
    uint96 internal immutable _minFee;
    uint96 internal immutable _auditFee;

    constructor(IMarketplace marketplace_, BoardRules memory rules) {
        if (address(marketplace_) == address(0)) revert ZeroAddress();
        _within(rules.challengeWindow, 0, 30 days);
        _within(rules.sortitionStep, 1, 1 days);
        _within(rules.holdWindow, 1, 90 days);
        _within(rules.claimsPerWeight, 1, type(uint32).max);
        _within(rules.minClaimWindow, 1, rules.maxClaimWindow);
        _within(rules.maxClaimWindow, 1, 30 days);
        _within(rules.minCommitWindow, 1, rules.maxCommitWindow);
        _within(rules.maxCommitWindow, 1, 30 days);
        _within(rules.cancelDelay, 0, 1 minutes);
        _within(rules.protocolFeeBps, 0, 2000);
        marketplace = marketplace_;
        _challengeWindow = rules.challengeWindow;
        _sortitionStep = rules.sortitionStep;
        _holdWindow = rules.holdWindow;
        _claimsPerWeight = rules.claimsPerWeight;
        _minClaimWindow = rules.minClaimWindow;
        _maxClaimWindow = rules.maxClaimWindow;
        _minCommitWindow = rules.minCommitWindow;
        _maxCommitWindow = rules.maxCommitWindow;
        cancelDelay = rules.cancelDelay;
        _protocolFeeBps = rules.protocolFeeBps;
        _maxRoyaltyBps = marketplace_.maxRoyaltyBps();
        _within(_maxRoyaltyBps, 0, 5000);
        _minFee = rules.minFee;
        _auditFee = rules.auditFee;
    }

    /// @inheritdoc ITaskBoard
    function params()
        external
        view
        returns (
            uint32 challengeWindow,
            uint32 sortitionStep,
            uint32 holdWindow,
            uint32 claimsPerWeight,
            uint32 minClaimWindow,
            uint32 maxClaimWindow,
            uint32 minCommitWindow,
            uint32 maxCommitWindow,
            uint16 protocolFeeBps,
            uint16 maxRoyaltyBps,
            uint96 minFee,
            uint96 auditFee
        )
    {
        challengeWindow = _challengeWindow;
        sortitionStep = _sortitionStep;
        holdWindow = _holdWindow;
        claimsPerWeight = _claimsPerWeight;
        minClaimWindow = _minClaimWindow;
        maxClaimWindow = _maxClaimWindow;
        minCommitWindow = _minCommitWindow;
        maxCommitWindow = _maxCommitWindow;
        protocolFeeBps = _protocolFeeBps;
        maxRoyaltyBps = _maxRoyaltyBps;
        minFee = _minFee;
        auditFee = _auditFee;
    }

    function _within(uint256 value, uint256 least, uint256 greatest) private pure {
        if (value < least || value > greatest) revert RuleOutOfRange(value, least, greatest);
    }
}
