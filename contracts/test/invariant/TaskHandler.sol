// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {Actor} from "./Actor.sol";
import {World} from "./World.sol";

/// @dev Drives tasks and money. Every function does something allowed or nothing, so that no call reverts; what must
/// be refused is tried on purpose by `poke`.
contract TaskHandler is Actor {
    uint64 private nonce;
    address private immutable arbiter;

    constructor(World world_, address arbiter_) Actor(world_) {
        arbiter = arbiter_;
    }

    function deposit(uint256 who, uint96 amount, uint256 time) external after_(time) {
        amount = uint96(clamp(amount, 1, 100 ether));
        address account = requesterAt(who);
        world.mint(account, amount);
        vm.prank(account);
        token.approve(address(board), amount);
        vm.prank(account);
        board.deposit(amount);
        world.noteDeposit(amount);
    }

    function withdraw(uint256 who, uint256 amount, uint256 time) external after_(time) {
        address[] memory all = world.accounts();
        address account = all[who % all.length];
        uint256 balance = board.balanceOf(account);
        if (balance == 0) return;
        amount = clamp(amount, 1, balance);
        vm.prank(account);
        board.withdraw(amount);
        world.noteWithdrawal(account, amount);
    }

    function submit(uint256 who, uint96 fee, uint32 windows, uint64 model, uint256 time) external after_(time) {
        address account = requesterAt(who);
        uint256 balance = board.balanceOf(account);
        if (balance < 1000 || world.taskCount() >= 40) return;
        uint256 most = balance < 10 ether ? balance : 10 ether;
        uint32 claimWindow = uint32(clamp(windows, 10, 300));
        uint32 commitWindow = uint32(clamp(windows >> 16, 10, 300));
        model = world.modelOf(model);
        // Every other one is a training.
        uint8 kind = uint8(1 + nonce % 2);
        fee = uint96(clamp(fee, 1000, most));
        Terms memory terms = Terms(account, fee, keccak256("spec"), model, kind, claimWindow, commitWindow, ++nonce, 0);
        vm.prank(account);
        board.submit(terms);
        world.noteTask(terms);
        world.noteStep("submit");
    }

    function claim(uint256 task, uint256 who, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pick(task, TaskState.Submitted);
        if (!found) return;
        address node = nodeAt(who);
        uint256 closes = sinceOf(id) + terms.claimWindow;
        if (vm.getBlockTimestamp() > closes || !mayClaim(id, node)) return;
        vm.prank(node);
        board.claim(terms);
        world.noteStep("claim");
    }

    function commit(uint256 task, bytes32 root, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pick(task, TaskState.Claimed);
        if (!found || root == 0 || vm.getBlockTimestamp() > sinceOf(id) + terms.commitWindow) return;
        (, address node,,) = board.taskOf(id);
        vm.prank(node);
        board.commit(terms, root, 0);
        world.noteStep("commit");
    }

    function requestStop(uint256 task, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pickTraining(task);
        if (!found || vm.getBlockTimestamp() > sinceOf(id) + terms.commitWindow) return;
        uint256 before = world.balances();
        vm.prank(terms.requester);
        board.requestStop(terms);
        vm.assertEq(world.balances(), before, "asking moves no money");
        vm.assertEq(world.stateOf(id), uint8(TaskState.Claimed));
        world.noteStep("requestStop");
    }

    function commitPart(uint256 task, bytes32 root, uint16 doneBps, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pickTraining(task);
        // Other trainings are finished.
        if (!found || task % 2 == 0 || root == 0 || vm.getBlockTimestamp() > sinceOf(id) + terms.commitWindow) return;
        doneBps %= 10_000;
        (, address node,,) = board.taskOf(id);
        vm.prank(node);
        board.commitPart(terms, root, 0, doneBps);
        world.noteShare(id, doneBps);
        world.noteStep("commitPart");
    }

    /// @dev Any tasks in any state, some of them twice.
    function settle(uint256 first, uint256 size, uint256 time) external after_(time) {
        uint256 count = world.taskCount();
        if (count == 0) return;
        Terms[] memory batch = new Terms[](clamp(size, 1, 8));
        bytes32[] memory ids = new bytes32[](batch.length);
        for (uint256 i; i < batch.length; ++i) {
            (batch[i], ids[i]) = world.taskAt(uint256(keccak256(abi.encode(first, i))) % count);
        }
        uint256 expected;
        bool[] memory open = new bool[](batch.length);
        for (uint256 i; i < batch.length; ++i) {
            open[i] = world.stateOf(ids[i]) == uint8(TaskState.Committed);
        }
        uint256 before = world.balances();
        board.settle(batch);
        for (uint256 i; i < batch.length; ++i) {
            if (!open[i] || world.stateOf(ids[i]) != uint8(TaskState.Settled) || seenBefore(ids, i)) continue;
            expected += batch[i].fee;
            world.noteShares(batch[i]);
            world.noteEnd(ids[i], true);
            world.noteStep(world.isPart(ids[i]) ? "settlePart" : "settle");
        }
        // Rests of parts included: they go back to their requesters.
        vm.assertEq(world.balances() - before, expected, "a batch pays out exactly the fees of what it settled");
    }

    function cancel(uint256 task, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pick(task, TaskState.Submitted);
        // Most tasks should live on; a fuzzer that cancels everything sees nothing.
        if (!found || task % 4 != 0) return;
        if (vm.getBlockTimestamp() < sinceOf(id) + board.cancelDelay()) return;
        uint256 before = board.balanceOf(terms.requester);
        vm.prank(terms.requester);
        board.cancel(terms);
        vm.assertEq(board.balanceOf(terms.requester) - before, terms.fee, "a cancel refunds the fee");
        world.noteEnd(id, false);
        world.noteStep("cancel");
    }

    function expire(uint256 task, uint256 which, uint256 time) external after_(time) {
        TaskState[3] memory states = [TaskState.Submitted, TaskState.Claimed, TaskState.Held];
        (bool found, Terms memory terms, bytes32 id) = pick(task, states[which % 3]);
        if (!found || vm.getBlockTimestamp() <= closesAt(terms, id)) return;
        uint256 before = board.balanceOf(terms.requester);
        board.expire(terms);
        vm.assertEq(board.balanceOf(terms.requester) - before, terms.fee, "an expiry refunds the fee");
        world.noteEnd(id, false);
        world.noteStep("expire");
    }

    function hold(uint256 task, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pick(task, TaskState.Committed);
        (uint32 challenge,,,,,,,,,,,) = board.params();
        if (!found || task % 2 == 0 || vm.getBlockTimestamp() >= sinceOf(id) + challenge) return;
        vm.prank(arbiter);
        board.hold(terms);
        world.noteStep("hold");
    }

    function rule(uint256 task, bool upheld, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pick(task, TaskState.Held);
        if (!found) return;
        upheld = upheld && vm.getBlockTimestamp() <= closesAt(terms, id);
        uint256 before = world.balances();
        vm.prank(arbiter);
        board.rule(terms, upheld);
        vm.assertEq(world.balances() - before, upheld ? 0 : terms.fee, "a ruling refunds once, or leaves it to settle");
        if (!upheld) world.noteEnd(id, false);
        else vm.assertEq(world.stateOf(id), uint8(TaskState.Committed), "an upheld task waits for settlement");
        world.noteStep("rule");
    }

    /// @dev The arbiter takes out at once what it has to burn, so that the board's accounts stay those of the world.
    function forfeit(uint256 task, uint256 time) external after_(time) {
        (bool found, Terms memory terms, bytes32 id) = pick(task, TaskState.Held);
        if (!found) return;
        uint256 before = world.balances();
        vm.prank(arbiter);
        (, uint96 amount) = board.forfeit(terms);
        vm.assertEq(amount, world.dueOf(terms), "what the node would have shared");
        vm.assertEq(world.balances() - before, terms.fee - amount, "what a part leaves goes back");
        if (amount != 0) {
            vm.prank(arbiter);
            board.withdraw(amount);
            world.noteWithdrawal(arbiter, amount);
        }
        world.noteEnd(id, false);
        world.noteStep("forfeit");
    }

    /// @dev Somebody with no business there tries every step on any task; only the open ones may work, and here none is.
    function poke(uint256 task, uint256 time) external after_(time) {
        uint256 count = world.taskCount();
        if (count == 0) return;
        (Terms memory terms, bytes32 id) = world.taskAt(task % count);
        uint8 state = world.stateOf(id);
        uint256 before = world.balances();
        bytes[9] memory calls = [
            abi.encodeCall(board.submit, (terms)),
            abi.encodeCall(board.claim, (terms)),
            abi.encodeCall(board.commit, (terms, bytes32(uint256(1)), 0)),
            abi.encodeCall(board.commitPart, (terms, bytes32(uint256(1)), 0, 1)),
            abi.encodeCall(board.requestStop, (terms)),
            abi.encodeCall(board.cancel, (terms)),
            abi.encodeCall(board.hold, (terms)),
            abi.encodeCall(board.rule, (terms, true)),
            abi.encodeCall(board.forfeit, (terms))
        ];
        for (uint256 i; i < calls.length; ++i) {
            (bool success,) = address(board).call(calls[i]);
            vm.assertTrue(!success, "a stranger must be refused");
        }
        vm.assertEq(world.stateOf(id), state);
        vm.assertEq(world.balances(), before);
    }

    function mayClaim(bytes32 id, address node) private view returns (bool) {
        (,, uint40 since, uint128 seed) = board.taskOf(id);
        (, uint32 step,, uint32 perWeight,,,,,,,,) = board.params();
        uint256 weight = board.weightOf(node);
        if (weight == 0 || board.activeClaimsOf(node) >= weight * perWeight) return false;
        uint256 limit = Sortition.threshold(board.totalWeight(), weight, vm.getBlockTimestamp() - since, step);
        return Sortition.score(seed, id, node) <= limit;
    }

    /// @dev A claimed task of the kind of which a part may be committed.
    function pickTraining(uint256 seed) private view returns (bool found, Terms memory terms, bytes32 id) {
        uint256 count = world.taskCount();
        for (uint256 i; i < count; ++i) {
            (terms, id) = world.taskAt((seed % count + i) % count);
            if (terms.kind == 2 && world.stateOf(id) == uint8(TaskState.Claimed)) return (true, terms, id);
        }
    }

    function closesAt(Terms memory terms, bytes32 id) private view returns (uint256) {
        (,, uint32 holdWindow,,,,,,,,,) = board.params();
        uint8 state = world.stateOf(id);
        if (state == uint8(TaskState.Submitted)) return sinceOf(id) + terms.claimWindow;
        if (state == uint8(TaskState.Claimed)) return sinceOf(id) + terms.commitWindow;
        return sinceOf(id) + holdWindow;
    }

    function seenBefore(bytes32[] memory ids, uint256 i) private pure returns (bool) {
        for (uint256 j; j < i; ++j) {
            if (ids[j] == ids[i]) return true;
        }
        return false;
    }
}
