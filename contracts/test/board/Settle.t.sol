// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Royalty} from "../../src/interfaces/IMarketplace.sol";
import {ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fees} from "../../src/libraries/Fees.sol";
import {Fixture} from "../base/Fixture.sol";

contract SettleTest is Fixture {
    address private node = nodeAt(0);
    uint64 private model;

    function setUp() public override {
        super.setUp();
        fund(alice, 100 ether);
        join(node);
        model = publish();
    }

    function test_Settle() public {
        Terms memory terms = committed(alice, model, node);
        skip(CHALLENGE);
        vm.expectEmit(address(board));
        emit ITaskBoard.Settled(board.taskIdOf(terms), node, 0.875 ether, 0.1 ether, publisher, 0.025 ether);
        vm.prank(bob);
        vm.assertEq(board.settle(one(terms)), 1);
        assertState(terms, TaskState.Settled);
        vm.assertEq(board.balanceOf(node), 0.875 ether);
        vm.assertEq(board.balanceOf(publisher), 0.1 ether);
        vm.assertEq(board.balanceOf(treasury), 0.025 ether);
        vm.assertEq(board.balanceOf(alice), 99 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    function test_SettleWithoutModelPaysNoRoyalty() public {
        settled(alice, 0, node);
        vm.assertEq(board.balanceOf(node), 0.975 ether);
        vm.assertEq(board.balanceOf(treasury), 0.025 ether);
    }

    function test_SettleOfUnknownModelPaysNoRoyalty() public {
        settled(alice, 999, node);
        vm.assertEq(board.balanceOf(node), 0.975 ether);
    }

    function test_SettleOfYankedModelStillPays() public {
        Terms memory terms = committed(alice, model, node);
        vm.prank(publisher);
        marketplace.yank(model);
        skip(CHALLENGE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(publisher), 0.1 ether);
    }

    function test_RoyaltyFollowsTheListing() public {
        Terms memory terms = committed(alice, model, node);
        vm.prank(publisher);
        marketplace.transferListing(model, bob);
        skip(CHALLENGE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(bob), 0.1 ether);
        vm.assertEq(board.balanceOf(publisher), 0);
    }

    function test_OneAccountMayBeEverybody() public {
        fund(node, 10 ether);
        vm.prank(node);
        uint64 own = marketplace.publish("own", keccak256("own"), 0, 0, ROYALTY_BPS, bytes32(0));
        settled(node, own, node);
        vm.assertEq(board.balanceOf(node), 10 ether - 0.025 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    /// @dev Each entry is one of: settleable, too young, unknown, settled before, twice in the batch.
    function test_BatchSkipsWhatCannotBeSettled() public {
        Terms[] memory batch = new Terms[](5);
        batch[0] = settled(alice, model, node);
        batch[1] = committed(alice, 0, node);
        skip(CHALLENGE);
        batch[2] = batch[1];
        batch[3] = termsOf(alice, model);
        batch[4] = committed(alice, model, node);
        expectSkip(batch[0]);
        vm.expectEmit(address(board));
        emit ITaskBoard.Settled(board.taskIdOf(batch[1]), node, 0.975 ether, 0, address(0), 0.025 ether);
        expectSkip(batch[2]);
        expectSkip(batch[3]);
        expectSkip(batch[4]);
        vm.assertEq(board.settle(batch), 1);
        vm.assertEq(board.balanceOf(node), 0.875 ether + 0.975 ether);
        assertState(batch[4], TaskState.Committed);
    }

    /// @dev The royalty remembered from one entry must not leak into the next.
    function test_BatchOfSeveralModels() public {
        vm.prank(bob);
        uint64 free = marketplace.publish("free", keccak256("free"), 0, 0, 0, bytes32(0));
        Terms[] memory batch = new Terms[](4);
        batch[0] = committed(alice, model, node);
        batch[1] = committed(alice, 0, node);
        batch[2] = committed(alice, free, node);
        batch[3] = committed(alice, model, node);
        skip(CHALLENGE);
        vm.assertEq(board.settle(batch), 4);
        vm.assertEq(board.balanceOf(publisher), 0.2 ether);
        vm.assertEq(board.balanceOf(bob), 0);
        vm.assertEq(board.balanceOf(node), 2 * 0.875 ether + 2 * 0.975 ether);
        vm.assertEq(board.balanceOf(treasury), 0.1 ether);
    }

    /// @dev One call may settle tasks of a LoRA, of its base and of none; each owner gets the sum of its shares.
    function test_RoyaltiesGoAlongTheLineage() public {
        uint64 lora = derive(bob, "lora", model, 500);
        Terms[] memory batch = new Terms[](4);
        batch[0] = committed(alice, lora, node);
        batch[1] = committed(alice, lora, node);
        batch[2] = committed(alice, model, node);
        batch[3] = committed(alice, 0, node);
        skip(CHALLENGE);
        expectSettled(batch[0], 0.825 ether, 0.15 ether, bob);
        expectSettled(batch[1], 0.825 ether, 0.15 ether, bob);
        expectRoyalty(lora, bob, 0.1 ether);
        expectRoyalty(model, publisher, 0.2 ether);
        expectSettled(batch[2], 0.875 ether, 0.1 ether, publisher);
        expectRoyalty(model, publisher, 0.1 ether);
        expectSettled(batch[3], 0.975 ether, 0, address(0));
        vm.assertEq(board.settle(batch), 4);
        vm.assertEq(board.balanceOf(bob), 0.1 ether);
        vm.assertEq(board.balanceOf(publisher), 0.3 ether);
        vm.assertEq(board.balanceOf(treasury), 0.1 ether);
        vm.assertEq(board.balanceOf(node), 2 * 0.825 ether + 0.875 ether + 0.975 ether);
    }

    function test_AnUpheldRulingPaysTheLineage() public {
        setArbiters();
        Terms memory terms = committed(alice, derive(bob, "lora", model, 500), node);
        vm.prank(arbiter);
        board.hold(terms);
        vm.prank(arbiter);
        board.rule(terms, true);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(bob), 0.05 ether);
        vm.assertEq(board.balanceOf(publisher), 0.1 ether);
        vm.assertEq(board.balanceOf(node), 0.825 ether);
    }

    /// @dev Yanked parents, owners who are one and the same, listings that ask for nothing.
    function test_AYankOfParentsBreaksNoSettlement() public {
        uint64 free = derive(bob, "free", model, 0);
        uint64 lora = derive(publisher, "lora", free, 500);
        Terms memory terms = committed(alice, lora, node);
        vm.prank(publisher);
        marketplace.yank(model);
        vm.prank(bob);
        marketplace.yank(free);
        skip(CHALLENGE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(publisher), 0.15 ether);
        vm.assertEq(board.balanceOf(bob), 0);
        vm.assertEq(board.balanceOf(node), 0.825 ether);
    }

    function testFuzz_ALineageIsPaidToTheBaseUnit(uint96 fee, uint16[4] memory bps, uint256 depth) public {
        depth = clamp(depth, 1, 4);
        uint64 id;
        for (uint256 i; i < depth; ++i) {
            bps[i] = uint16(clamp(bps[i], 0, 500));
            id = derive(address(uint160(0x5000 + i)), vm.toString(i), id, bps[i]);
        }
        Terms memory terms = termsOf(alice, id);
        terms.fee = uint96(clamp(fee, 1000, 50 ether));
        vm.prank(alice);
        board.submit(terms);
        vm.prank(node);
        board.claim(terms);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        skip(CHALLENGE);
        board.settle(one(terms));
        uint256 sum = board.balanceOf(node) + board.balanceOf(treasury);
        for (uint256 i; i < depth; ++i) {
            uint256 share = board.balanceOf(address(uint160(0x5000 + i)));
            vm.assertEq(share, uint256(terms.fee) * bps[i] / 10_000);
            sum += share;
        }
        vm.assertEq(sum, terms.fee);
    }

    function test_SettleIsNotOpenOneSecondEarly() public {
        Terms memory terms = committed(alice, model, node);
        skip(CHALLENGE - 1);
        expectSkip(terms);
        vm.assertEq(board.settle(one(terms)), 0);
        skip(1);
        vm.assertEq(board.settle(one(terms)), 1);
    }

    function test_EmptyBatch() public {
        vm.assertEq(board.settle(new Terms[](0)), 0);
    }

    /// @dev No price, royalty or protocol share may lose or make a base unit, however long the lineage.
    function testFuzz_SplitIsExact(uint96 fee, uint16[4] memory bps, uint256 count, uint16 protocolBps) public pure {
        protocolBps = uint16(clamp(protocolBps, 0, 2000));
        Royalty[] memory royalties = new Royalty[](count % 5);
        uint256[] memory owed = new uint256[](royalties.length);
        for (uint256 i; i < royalties.length; ++i) {
            royalties[i].bps = uint16(clamp(bps[i], 0, 5000 / royalties.length));
            owed[i] = i;
        }
        (uint96 toNode, uint96 royalty, uint96 protocolFee) = Fees.split(fee, royalties, owed, protocolBps);
        uint256 sum;
        for (uint256 i; i < royalties.length; ++i) {
            vm.assertEq(owed[i] - i, uint256(fee) * royalties[i].bps / 10_000);
            sum += owed[i] - i;
        }
        vm.assertEq(royalty, sum);
        vm.assertEq(uint256(toNode) + royalty + protocolFee, fee);
        vm.assertEq(protocolFee, uint256(fee) * protocolBps / 10_000);
    }

    function testFuzz_SettlePaysWhatWasEscrowed(uint96 fee) public {
        fee = uint96(clamp(fee, 1000, type(uint96).max - 100 ether));
        fund(alice, fee);
        Terms memory terms = termsOf(alice, model);
        terms.fee = fee;
        vm.prank(alice);
        board.submit(terms);
        vm.prank(node);
        board.claim(terms);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        skip(CHALLENGE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(node) + board.balanceOf(publisher) + board.balanceOf(treasury), fee);
        vm.assertEq(board.balanceOf(alice), 100 ether);
    }

    function derive(address owner, string memory name, uint64 parent, uint16 bps) private returns (uint64) {
        vm.prank(owner);
        return marketplace.publish(name, keccak256(bytes(name)), 1, parent, bps, bytes32(0));
    }

    function expectSettled(Terms memory terms, uint96 paid, uint96 royalty, address to) private {
        bytes32 taskId = board.taskIdOf(terms);
        vm.expectEmit(address(board));
        emit ITaskBoard.Settled(taskId, node, paid, royalty, to, 0.025 ether);
    }

    function expectRoyalty(uint64 listing, address to, uint256 amount) private {
        vm.expectEmit(address(board));
        emit ITaskBoard.RoyaltyPaid(listing, to, amount);
    }

    function expectSkip(Terms memory terms) private {
        bytes32 taskId = board.taskIdOf(terms);
        vm.expectEmit(address(board));
        emit ITaskBoard.SettleSkipped(taskId);
    }
}
