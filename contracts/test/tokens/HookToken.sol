// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

interface IReceiver {
    function onToken() external;
}

/// @dev Calls a chosen contract in the middle of every transfer, as ERC-777 does.
contract HookToken is ERC20("Hook", "HOOK") {
    IReceiver public receiver;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function hook(IReceiver receiver_) external {
        receiver = receiver_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (address(receiver) != address(0)) receiver.onToken();
    }
}
