// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ArbiterRules} from "../interfaces/IArbiter.sol";

/// @title RulesPage
/// @notice The arbiter's rules to be read, as the code of a contract that does nothing. What the arbiter works with are its own
/// immutables; to list them all for whoever asks would take a kilobyte of the room that it has for code.
contract RulesPage {
    /// @dev The page begins with STOP, so that a call of it runs none of what is written there.
    constructor(ArbiterRules memory rules) {
        bytes memory page = bytes.concat(hex"00", abi.encode(rules));
        assembly ("memory-safe") {
            return(add(page, 32), mload(page))
        }
    }
}
