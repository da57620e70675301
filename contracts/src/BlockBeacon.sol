// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBeacon} from "./interfaces/IBeacon.sol";

/// @title BlockBeacon
/// @notice A beacon made of block hashes, for devnets and for chains whose proposers are trusted not to cheat.
///
/// Round `n` begins at second `n * period`. Its seed is keccak256(abi.encode(hash of the block before, n)), fixed by the
/// first call of `poke` or `resolve` for it, at or after its beginning. A round that nobody poked in its own time is not
/// lost: whoever needs it calls `resolve`, and it takes the hash of that moment.
/// @dev Weaknesses. The proposer of a block knows its hash first and may withhold the block, or choose among several;
/// so may an L2 sequencer, at no cost. Whoever pokes chooses the block, one among those before somebody else pokes:
/// watchers poke as soon as a round begins, which leaves one block to choose from. Use a verified public beacon where an
/// audit guards real money.
contract BlockBeacon is IBeacon {
    /// @notice Seconds of a round.
    uint40 public immutable period;

    /// @inheritdoc IBeacon
    mapping(uint64 round => bytes32) public seedOf;

    /// @notice Thrown when the period is outside its hard range.
    error PeriodOutOfRange(uint40 period, uint40 least, uint40 greatest);

    /// @notice Thrown when a round has not begun.
    error RoundAhead(uint64 round, uint64 current);

    constructor(uint40 period_) {
        if (period_ == 0 || period_ > 1 days) revert PeriodOutOfRange(period_, 1, 1 days);
        period = period_;
    }

    /// @notice Fixes the seed of the current round, if that has not happened. Anyone may call.
    function poke() external {
        resolve(roundAt(uint40(block.timestamp)));
    }

    /// @notice Fixes the seed of a round that has begun, if that has not happened. Anyone may call.
    function resolve(uint64 round) public {
        uint64 current = roundAt(uint40(block.timestamp));
        if (round > current) revert RoundAhead(round, current);
        if (seedOf[round] != 0) return;
        bytes32 seed = keccak256(abi.encode(blockhash(block.number - 1), round));
        seedOf[round] = seed;
        emit SeedFixed(round, seed);
    }

    /// @inheritdoc IBeacon
    function roundAt(uint40 time) public view returns (uint64) {
        return time / period;
    }

    /// @inheritdoc IBeacon
    function startOf(uint64 round) external view returns (uint40) {
        return uint40(round * period);
    }
}
