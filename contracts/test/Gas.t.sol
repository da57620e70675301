// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Terms} from "../src/interfaces/ITaskBoard.sol";
import {Fixture} from "./base/Fixture.sol";

/// @dev What each step costs in a running system: accounts are old, slots of balances are not zero. The figures are
/// whole transactions (base cost, calldata and refunds included) and are committed in snapshots/.
contract GasTest is Fixture {
    /// @dev Submit, claim, commit and a tenth of a settlement of ten.
    uint256 private constant GOAL = 150_000;

    uint64 private model;

    function setUp() public override {
        super.setUp();
        fund(alice, 1000 ether);
        model = publish();
    }

    function test_CodeFitsTheSizeLimit() public view {
        address[4] memory all = [address(board), address(registry), address(marketplace), address(token)];
        for (uint256 i; i < all.length; ++i) {
            vm.assertLe(all[i].code.length, 24_576);
        }
    }

    function test_Transfer() public {
        token.mint(alice, 10 ether);
        token.mint(bob, 10 ether);
        vm.prank(alice);
        bool sent = token.transfer(bob, 1 ether);
        vm.snapshotGasLastCall("baseline", "erc20_transfer");
        vm.assertTrue(sent);
    }

    function test_Deposit() public {
        token.mint(alice, 10 ether);
        vm.prank(alice);
        board.deposit(1 ether);
        vm.snapshotGasLastCall("money", "deposit");
        vm.prank(alice);
        board.withdraw(1 ether);
        vm.snapshotGasLastCall("money", "withdraw");
    }

    function test_Cancel() public {
        Terms memory terms = submitted(alice, model);
        skip(CANCEL_DELAY);
        vm.prank(alice);
        board.cancel(terms);
        vm.snapshotGasLastCall("money", "cancel");
    }

    function test_Expire() public {
        join(nodeAt(0));
        Terms memory terms = claimed(alice, model, nodeAt(0));
        skip(200);
        board.expire(terms);
        vm.snapshotGasLastCall("money", "expire_claimed");
    }

    function test_Register() public {
        join(nodeAt(0));
        token.mint(bob, STAKE);
        vm.prank(bob);
        token.approve(address(registry), STAKE);
        vm.prank(bob);
        registry.register(abi.encodePacked(uint256(1), uint48(2)), bytes32(uint256(1)), STAKE);
        vm.snapshotGasLastCall("registry", "register");
    }

    function test_LifecycleWith3Nodes() public {
        lifecycle(3, "nodes_3");
    }

    function test_LifecycleWith100Nodes() public {
        lifecycle(100, "nodes_100");
    }

    function test_LifecycleWith1000Nodes() public {
        lifecycle(1000, "nodes_1000");
    }

    function test_Settle1() public {
        settleOf(1);
    }

    function test_Settle10() public {
        settleOf(10);
    }

    function test_Settle50() public {
        settleOf(50);
    }

    /// @dev A training that its requester stops, and its settlement among nine whole tasks.
    function test_Part() public {
        for (uint256 i; i < 3; ++i) {
            join(nodeAt(i));
        }
        Terms[] memory batch = committedBatch(10, 3);
        skip(CHALLENGE);
        board.settle(batch);
        batch = new Terms[](10);
        fill(batch, 9, 3);
        batch[9] = claimedTraining(alice, model, nodeAt(0));
        vm.prank(alice);
        board.requestStop(batch[9]);
        vm.snapshotGasLastCall("part", "request_stop");
        vm.prank(nodeAt(0));
        board.commitPart(batch[9], RESULT, TRACE, 2500);
        vm.snapshotGasLastCall("part", "commit_part");
        skip(CHALLENGE);
        board.settle(batch);
        vm.snapshotGasLastCall("part", "settle_10_with_a_part");
    }

    /// @dev A LoRA on a base, and the longest lineage there may be: what parents add to a settlement.
    function test_SettleWithParents() public {
        uint64 base = model;
        string[3] memory names = ["parents_1", "parents_2", "parents_3"];
        for (uint256 i; i < names.length; ++i) {
            address owner = address(uint160(0x5000 + i));
            vm.prank(owner);
            model = marketplace.publish(names[i], keccak256(bytes(names[i])), 1, model, 200, bytes32(0));
        }
        for (uint256 i; i < 3; ++i) {
            join(nodeAt(i));
        }
        Terms[] memory batch = committedBatch(10, 3);
        skip(CHALLENGE);
        board.settle(batch);
        for (uint256 parents = 3; parents > 0; --parents) {
            batch = committedBatch(10, 3);
            skip(CHALLENGE);
            board.settle(batch);
            vm.snapshotGasLastCall("settle", string.concat("settle_10_", names[parents - 1]));
            model = uint64(base + parents - 1);
        }
    }

    /// @dev A later task of a node among `count`, step by step, settled with nine others of three nodes.
    function lifecycle(uint256 count, string memory group) private {
        for (uint256 i; i < count; ++i) {
            join(nodeAt(i));
        }
        Terms[] memory batch = committedBatch(10, 3);
        skip(CHALLENGE);
        board.settle(batch);
        batch = new Terms[](10);
        fill(batch, 9, 3);
        Terms memory terms = termsOf(alice, model);
        batch[9] = terms;
        vm.prank(alice);
        board.submit(terms);
        uint256 sum = vm.snapshotGasLastCall(group, "submit");
        address node = nodeAt(0);
        waitForTurn(terms, node);
        vm.prank(node);
        board.claim(terms);
        sum += vm.snapshotGasLastCall(group, "claim");
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        sum += vm.snapshotGasLastCall(group, "commit");
        skip(CHALLENGE);
        board.settle(batch);
        sum += vm.snapshotGasLastCall(group, "settle_10") / 10;
        vm.assertLe(sum, GOAL, "a task must stay within the gas goal");
    }

    /// @dev One call for `count` tasks of up to twenty nodes: no account is shared by the first twenty tasks.
    function settleOf(uint256 count) private {
        for (uint256 i; i < 20; ++i) {
            join(nodeAt(i));
        }
        Terms[] memory batch = committedBatch(20, 20);
        skip(CHALLENGE);
        board.settle(batch);
        batch = committedBatch(count, 20);
        skip(CHALLENGE);
        board.settle(batch);
        vm.snapshotGasLastCall("settle", string.concat("settle_", vm.toString(count)));
    }

    function committedBatch(uint256 count, uint256 nodes) private returns (Terms[] memory batch) {
        batch = new Terms[](count);
        fill(batch, count, nodes);
    }

    function fill(Terms[] memory batch, uint256 count, uint256 nodes) private {
        for (uint256 i; i < count; ++i) {
            batch[i] = committed(alice, model, nodeAt(i % nodes));
        }
    }
}
