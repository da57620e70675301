// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {INodeRegistry, NodeState, RegistryRules} from "../../src/interfaces/INodeRegistry.sol";
import {Fixture} from "../base/Fixture.sol";
import {FeeToken} from "../tokens/FeeToken.sol";

contract NodeRegistryTest is Fixture {
    address private node = nodeAt(0);
    bytes private constant PEER = hex"00240801122068a1";

    function test_Register() public {
        token.mint(node, 3 * STAKE);
        vm.prank(node);
        token.approve(address(registry), type(uint256).max);
        vm.expectEmit(address(registry));
        emit INodeRegistry.NodeRegistered(node, PEER, bytes32(uint256(5)), 3 * STAKE);
        vm.prank(node);
        registry.register(PEER, bytes32(uint256(5)), 3 * STAKE);
        (bytes memory peer, bytes32 caps, uint96 stake, uint32 weight, uint8 state, uint8 standing, uint40 unbondAt) =
            registry.nodeOf(node);
        vm.assertEq(peer, PEER);
        vm.assertEq(caps, bytes32(uint256(5)));
        vm.assertEq(stake, 3 * STAKE);
        vm.assertEq(weight, 3);
        vm.assertEq(state, uint8(NodeState.Active));
        vm.assertEq(standing, 100);
        vm.assertEq(unbondAt, 0);
        vm.assertEq(registry.walletOf(PEER), node);
        vm.assertEq(registry.totalWeight(), 3);
        vm.assertEq(token.balanceOf(address(registry)), 3 * STAKE);
    }

    function test_UnknownNodeIsAllZeros() public view {
        (bytes memory peer,, uint96 stake, uint32 weight, uint8 state, uint8 standing,) = registry.nodeOf(bob);
        vm.assertEq(peer.length, 0);
        vm.assertEq(stake, 0);
        vm.assertEq(weight, 0);
        vm.assertEq(state, uint8(NodeState.None));
        vm.assertEq(standing, 0);
    }

    function test_RegisterWithPermit() public {
        uint256 key = 0xBEEF;
        address owner = vm.addr(key);
        token.mint(owner, STAKE);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                owner,
                address(registry),
                uint256(STAKE),
                0,
                type(uint256).max
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), permit)));
        vm.prank(owner);
        registry.registerWithPermit(PEER, 0, STAKE, type(uint256).max, v, r, s);
        vm.assertEq(registry.weightOf(owner), 1);
    }

    function test_RevertWhen_StakeIsTooLow() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, STAKE - 1, STAKE));
        registry.register(PEER, 0, STAKE - 1);
    }

    function test_RevertWhen_PeerIdIsTaken() public {
        join(node);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.PeerIdTaken.selector, node));
        vm.prank(bob);
        registry.register(abi.encodePacked(node), 0, STAKE);
    }

    function test_RevertWhen_WalletRegistersTwice() public {
        join(node);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyRegistered.selector, node));
        vm.prank(node);
        registry.register(PEER, 0, STAKE);
    }

    function test_RevertWhen_PeerIdLengthIsWrong() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.PeerIdInvalid.selector, 0));
        registry.register("", 0, STAKE);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.PeerIdInvalid.selector, 65));
        registry.register(new bytes(65), 0, STAKE);
    }

    function test_RevertWhen_TokenTakesAFee() public {
        FeeToken fee = new FeeToken();
        NodeRegistry other = new NodeRegistry(fee, admin, RegistryRules(100, 100, UNBONDING, 0));
        address fake = address(new FakeBoard());
        vm.prank(admin);
        other.setBoard(fake);
        fee.mint(node, 100);
        vm.prank(node);
        fee.approve(address(other), 100);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.TokenAmountMismatch.selector, 100, 99));
        vm.prank(node);
        other.register(PEER, 0, 100);
    }

    function test_RevertWhen_RegisteringBeforeTheBoardIsKnown() public {
        NodeRegistry other = new NodeRegistry(token, admin, RegistryRules(100, 100, UNBONDING, 0));
        vm.expectRevert(INodeRegistry.BoardNotSet.selector);
        other.register(PEER, 0, 100);
    }

    function test_UpdateMovesThePeerId() public {
        join(node);
        vm.prank(node);
        registry.update(PEER, bytes32(uint256(9)));
        vm.assertEq(registry.walletOf(PEER), node);
        vm.assertEq(registry.walletOf(abi.encodePacked(node)), address(0));
        (bytes memory peer, bytes32 caps,,,,,) = registry.nodeOf(node);
        vm.assertEq(peer, PEER);
        vm.assertEq(caps, bytes32(uint256(9)));
    }

    function test_UpdateMayKeepThePeerId() public {
        join(node);
        vm.prank(node);
        registry.update(abi.encodePacked(node), bytes32(uint256(9)));
        vm.assertEq(registry.walletOf(abi.encodePacked(node)), node);
    }

    function test_RevertWhen_UpdateTakesAnothersPeerId() public {
        join(node);
        join(nodeAt(1));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.PeerIdTaken.selector, nodeAt(1)));
        vm.prank(node);
        registry.update(abi.encodePacked(nodeAt(1)), 0);
    }

    function test_PauseAndResume() public {
        join(node);
        join(nodeAt(1));
        vm.prank(node);
        registry.pause();
        vm.assertEq(registry.weightOf(node), 0);
        vm.assertEq(registry.totalWeight(), 1);
        vm.prank(node);
        registry.resume();
        vm.assertEq(registry.weightOf(node), 1);
        vm.assertEq(registry.totalWeight(), 2);
    }

    function test_RevertWhen_PausedTwice() public {
        join(node);
        vm.prank(node);
        registry.pause();
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnexpectedNodeState.selector, node, NodeState.Paused));
        vm.prank(node);
        registry.pause();
    }

    function testFuzz_WeightFollowsStake(uint96 first, uint96 more) public {
        first = uint96(clamp(first, STAKE, 1_000_000 * uint256(STAKE)));
        more = uint96(clamp(more, 0, 1_000_000 * uint256(STAKE)));
        join(node, first);
        vm.assertEq(registry.weightOf(node), first / STAKE);
        token.mint(node, more);
        vm.prank(node);
        registry.addStake(more);
        vm.assertEq(registry.weightOf(node), (uint256(first) + more) / STAKE);
        vm.assertEq(registry.totalWeight(), registry.weightOf(node));
        vm.assertEq(token.balanceOf(address(registry)), uint256(first) + more);
    }

    function test_UnbondAndWithdraw() public {
        join(node);
        uint40 releaseAt = uint40(vm.getBlockTimestamp() + UNBONDING);
        vm.expectEmit(address(registry));
        emit INodeRegistry.UnbondBegun(node, releaseAt);
        vm.prank(node);
        registry.beginUnbond();
        vm.assertEq(registry.totalWeight(), 0);
        skip(UNBONDING - 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StillUnbonding.selector, releaseAt));
        vm.prank(node);
        registry.withdrawStake();
        skip(1);
        vm.prank(node);
        registry.withdrawStake();
        vm.assertEq(token.balanceOf(node), STAKE);
        vm.assertEq(registry.walletOf(abi.encodePacked(node)), address(0));
        (,, uint96 stake,, uint8 state,,) = registry.nodeOf(node);
        vm.assertEq(stake, 0);
        vm.assertEq(state, uint8(NodeState.None));
    }

    function test_NodeMayComeBack() public {
        test_UnbondAndWithdraw();
        vm.prank(node);
        registry.register(abi.encodePacked(node), 0, STAKE);
        vm.assertEq(registry.weightOf(node), 1);
    }

    function test_RevertWhen_StakeIsTakenWithTasksOpen() public {
        join(node);
        fund(alice, FEE);
        claimed(alice, 0, node);
        vm.prank(node);
        registry.beginUnbond();
        skip(UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ClaimsOutstanding.selector, 1));
        vm.prank(node);
        registry.withdrawStake();
    }

    function test_RevertWhen_UnbondingNodeActs() public {
        join(node);
        vm.prank(node);
        registry.beginUnbond();
        bytes memory why = abi.encodeWithSelector(INodeRegistry.UnexpectedNodeState.selector, node, NodeState.Unbonding);
        vm.expectRevert(why);
        vm.prank(node);
        registry.resume();
        vm.expectRevert(why);
        vm.prank(node);
        registry.addStake(1);
        vm.expectRevert(why);
        vm.prank(node);
        registry.update(PEER, 0);
        vm.expectRevert(why);
        vm.prank(node);
        registry.beginUnbond();
    }

    function test_RevertWhen_RulesAreOutOfRange() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.RuleOutOfRange.selector, 101, 1, 100));
        new NodeRegistry(token, admin, RegistryRules(100, 101, UNBONDING, 0));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.RuleOutOfRange.selector, 0, 1, 365 days));
        new NodeRegistry(token, admin, RegistryRules(100, 100, 0, 0));
    }

    function test_RevertWhen_StakeOverflowsItsWeight() public {
        NodeRegistry other = new NodeRegistry(token, admin, RegistryRules(1, 1, UNBONDING, 0));
        address fake = address(new FakeBoard());
        vm.prank(admin);
        other.setBoard(fake);
        uint256 stake = 1 << 32;
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooHigh.selector, stake));
        other.register(PEER, 0, uint96(stake));
    }
}

/// @dev Takes any weight.
contract FakeBoard {
    function setWeight(address, uint32, uint40) external {}
}
