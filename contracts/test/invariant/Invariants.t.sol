// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Royalty} from "../../src/interfaces/IMarketplace.sol";
import {NodeState} from "../../src/interfaces/INodeRegistry.sol";
import {TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";
import {MarketHandler} from "./MarketHandler.sol";
import {NodeHandler} from "./NodeHandler.sol";
import {TaskHandler} from "./TaskHandler.sol";
import {World} from "./World.sol";

/// @dev What must hold after any sequence of calls. Numbers in brackets are those of the project's list of invariants.
contract InvariantsTest is Fixture {
    World private world;
    TaskHandler private tasks;
    NodeHandler private members;
    MarketHandler private market;

    function setUp() public override {
        super.setUp();
        setArbiters();
        world = new World(token, registry, board);
        tasks = new TaskHandler(world, arbiter);
        members = new NodeHandler(world, arbiter);
        market = new MarketHandler(world);
        token.transferOwnership(address(world));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](3);
        (targets[0], targets[1], targets[2]) = (address(tasks), address(members), address(market));
    }

    /// @dev Invariants over handlers that never get anywhere prove nothing: random walks must take every step.
    function test_HandlersTakeEveryStep() public {
        for (uint256 i; i < 100; ++i) {
            tasks.deposit(draw(), uint96(draw()), draw());
            members.register(draw(), uint96(draw()), draw());
            tasks.submit(draw(), uint96(draw()), uint32(draw()), uint64(draw()), draw());
            // More than once: few nodes have joined, and fewer are drawn.
            for (uint256 k; k < 4; ++k) {
                tasks.claim(draw(), draw(), draw() % 2);
            }
            tasks.requestStop(draw(), 0);
            tasks.commitPart(draw(), bytes32(draw()), uint16(draw()), draw());
            tasks.commit(draw(), bytes32(draw()), draw());
            // At once and more than once: few tasks are young enough.
            tasks.hold(draw(), 0);
            tasks.hold(draw(), 0);
            tasks.hold(draw(), 0);
            if (i % 4 == 3) tasks.forfeit(draw(), draw());
            else tasks.rule(draw(), draw() % 2 == 0, draw());
            for (uint256 k; k < 3; ++k) {
                tasks.settle(draw(), draw(), draw());
            }
            tasks.expire(draw(), draw(), draw());
            tasks.cancel(draw(), draw());
            tasks.poke(draw(), draw());
            members.pauseOrResume(draw(), draw());
            members.unbond(draw(), draw());
            members.leave(draw(), draw());
            market.publish(draw(), uint64(draw()), uint16(draw()), draw());
            market.transfer(uint64(draw()), draw(), draw());
            market.bundle(uint64(i), uint64(7 * i), 0);
            market.yank(uint64(draw()), draw());
        }
        string[17] memory steps = [
            "submit",
            "claim",
            "commit",
            "requestStop",
            "commitPart",
            "settlePart",
            "hold",
            "rule",
            "forfeit",
            "settle",
            "expire",
            "cancel",
            "leave",
            "derive",
            "transfer",
            "bundle",
            "yank"
        ];
        for (uint256 i; i < steps.length; ++i) {
            vm.assertGe(world.done(steps[i]), 1, steps[i]);
        }
        afterInvariant();
    }

    function draw() private returns (uint256) {
        return uint256(keccak256(abi.encode("walk", ++nonce)));
    }

    /// @dev [1] Money is conserved: what the board holds is what accounts and open tasks are worth.
    function invariant_BoardHoldsWhatItOwes() public view {
        uint256 held = token.balanceOf(address(board));
        vm.assertEq(held, world.balances() + world.escrow(), "balances and escrow");
        vm.assertEq(held, world.deposited() - world.withdrawn(), "deposits less withdrawals");
    }

    /// @dev Each owner along a lineage, and the treasury, got its share of each paid fee to the base unit; since batches
    /// pay out exactly their fees, so did the nodes.
    function invariant_SharesAreExact() public view {
        for (uint256 i; i < 4; ++i) {
            address account = i < 3 ? world.publishers(i) : board.treasury();
            vm.assertEq(board.balanceOf(account) + world.taken(account), world.earned(account), "share");
        }
    }

    /// @dev From the commit on the board says the share that the node named, through holds, rulings and the end.
    function invariant_SharesAreKept() public view {
        for (uint256 i; i < world.taskCount(); ++i) {
            (, bytes32 id) = world.taskAt(i);
            (uint16 doneBps,) = board.doneOf(id);
            if (world.isPart(id)) vm.assertEq(doneBps, world.partOf(id), "part");
            else vm.assertEq(doneBps, board.commitmentOf(id) == 0 ? 0 : 10_000, "whole or nothing");
        }
    }

    /// @dev What a settlement may have to walk and to pay stays bounded, and nobody's manifest changes hands alone.
    function invariant_LineagesAreBounded() public view {
        uint64 count = marketplace.listingCount();
        for (uint64 id = 1; id <= count; ++id) {
            Royalty[] memory royalties = marketplace.royaltiesOf(id);
            vm.assertTrue(royalties.length >= 1 && royalties.length <= 4, "length");
            uint256 sum;
            for (uint256 i; i < royalties.length; ++i) {
                sum += royalties[i].bps;
            }
            vm.assertLe(sum, marketplace.maxRoyaltyBps(), "sum of royalties");
        }
    }

    /// @dev [1, 5] Stake is conserved, and a slash takes nothing from others.
    function invariant_RegistryHoldsAllStakes() public view {
        uint256 held = token.balanceOf(address(registry));
        vm.assertEq(held, world.stakes(), "stakes");
        vm.assertEq(held, world.staked() - world.unstaked() - world.slashed(), "in less out");
    }

    /// @dev [2] A task pays at most once, refunds at most once, and never does both.
    function invariant_TaskEndsOnce() public view {
        for (uint256 i; i < world.taskCount(); ++i) {
            (, bytes32 id) = world.taskAt(i);
            uint256 ends = world.paid(id) + world.refunded(id);
            vm.assertLe(ends, 1, "ended twice");
            vm.assertEq(ends, world.isOpen(world.stateOf(id)) ? 0 : 1, "ended without money");
            if (ends == 1) vm.assertEq(world.stateOf(id), world.ended(id), "left a terminal state");
        }
    }

    /// @dev Stake stays while tasks are open, since the count that locks it is right.
    function invariant_ClaimsAreCounted() public view {
        for (uint256 i; i < 4; ++i) {
            address node = world.nodes(i);
            uint256 open = world.unfinishedOf(node);
            vm.assertEq(board.activeClaimsOf(node), open, "claims");
            if (open == 0) continue;
            (,,,, uint8 state,,) = registry.nodeOf(node);
            vm.assertTrue(state != uint8(NodeState.None), "left with tasks open");
        }
    }

    function invariant_TotalWeightIsTheSumOfWeights() public view {
        uint256 sum;
        for (uint256 i; i < 4; ++i) {
            (,, uint96 stake, uint32 weight, uint8 state,,) = registry.nodeOf(world.nodes(i));
            vm.assertEq(weight, state == uint8(NodeState.Active) ? stake / STAKE : 0, "weight");
            sum += weight;
        }
        vm.assertEq(board.totalWeight(), sum, "total");
    }

    function invariant_PeerIdsAndWalletsAreOneToOne() public view {
        for (uint256 i; i < 4; ++i) {
            address node = world.nodes(i);
            (bytes memory peerId,,,, uint8 state,,) = registry.nodeOf(node);
            bool member = state != uint8(NodeState.None);
            vm.assertEq(registry.walletOf(abi.encodePacked(node)), member ? node : address(0));
            vm.assertEq(peerId.length, member ? 20 : 0);
        }
    }

    /// @dev [8, 9] After every run one stranger ends all tasks by waiting and calling, and everybody takes out all that
    /// is theirs; nothing remains and nothing is missing.
    function afterInvariant() public {
        for (uint256 round; round < 2; ++round) {
            skip(UNBONDING);
            for (uint256 i; i < world.taskCount(); ++i) {
                (Terms memory terms, bytes32 id) = world.taskAt(i);
                uint8 state = world.stateOf(id);
                if (!world.isOpen(state)) continue;
                vm.prank(bob);
                if (state == uint8(TaskState.Committed)) {
                    board.settle(one(terms));
                    world.noteShares(terms);
                } else {
                    board.expire(terms);
                }
                vm.assertTrue(!world.isOpen(world.stateOf(id)), "a task is stuck");
            }
            invariant_SharesAreExact();
            empty();
        }
        vm.assertEq(token.balanceOf(address(board)), 0, "money is stuck in the board");
        vm.assertEq(token.balanceOf(address(registry)), 0, "stake is stuck in the registry");
        vm.assertEq(board.totalWeight(), 0, "weight of nobody");
    }

    function empty() private {
        address[] memory all = world.accounts();
        for (uint256 i; i < all.length; ++i) {
            uint256 balance = board.balanceOf(all[i]);
            if (balance == 0) continue;
            vm.prank(all[i]);
            board.withdraw(balance);
            world.noteWithdrawal(all[i], balance);
        }
        for (uint256 i; i < 4; ++i) {
            address node = world.nodes(i);
            (,,,, uint8 state,, uint40 unbondAt) = registry.nodeOf(node);
            if (state == uint8(NodeState.None)) continue;
            vm.prank(node);
            if (state != uint8(NodeState.Unbonding)) registry.beginUnbond();
            else if (vm.getBlockTimestamp() >= unbondAt) registry.withdrawStake();
        }
    }
}
