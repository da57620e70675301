// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {
    ArbiterRules,
    AuditPhase,
    AuditView,
    DisputeOutcome,
    DisputePhase,
    DisputeView,
    Filing
} from "../../src/interfaces/IArbiter.sol";
import {NodeState} from "../../src/interfaces/INodeRegistry.sol";
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {AuditFixture} from "../base/AuditFixture.sol";
import {CourtHandler} from "./CourtHandler.sol";

/// @dev What must hold after any sequence of audits, disputes and bad behaviour.
contract CourtInvariantsTest is AuditFixture {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    CourtHandler private handler;
    uint256 private draws;

    function nodeCount() internal pure override returns (uint256) {
        return 7;
    }

    function arbiterRules() internal view override returns (ArbiterRules memory rules_) {
        rules_ = super.arbiterRules();
        (rules_.jurors, rules_.quorum, rules_.appealJurors, rules_.appealQuorum) = (3, 2, 3, 2);
        rules_.reserve = 5 ether;
    }

    function setUp() public override {
        super.setUp();
        fund(alice, 1000 ether);
        handler = new CourtHandler(token, registry, board, beacon, court, model);
        token.transferOwnership(address(handler));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](14);
        selectors[0] = CourtHandler.work.selector;
        selectors[1] = CourtHandler.settleOrExpire.selector;
        selectors[2] = CourtHandler.audit.selector;
        selectors[3] = CourtHandler.reveal.selector;
        selectors[4] = CourtHandler.close.selector;
        selectors[5] = CourtHandler.challenge.selector;
        selectors[6] = CourtHandler.vote.selector;
        selectors[7] = CourtHandler.revealVotes.selector;
        selectors[8] = CourtHandler.tally.selector;
        selectors[9] = CourtHandler.appeal.selector;
        selectors[10] = CourtHandler.execute.selector;
        selectors[11] = CourtHandler.money.selector;
        selectors[12] = CourtHandler.membership.selector;
        selectors[13] = CourtHandler.wait.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors);
    }

    /// @dev Walks that never get anywhere prove nothing.
    function test_HandlerTakesEveryStep() public {
        for (uint256 i; i < 40; ++i) {
            handler.work(draw(), uint96(draw()), draw());
            uint256 last = handler.count() - 1;
            if (i % 5 == 0) handler.challenge(draw(), draw());
            handler.audit(last, draw(), 0);
            handler.reveal(last, draw(), 0);
            if (i % 4 == 3) handler.wait(239);
            handler.close(i, draw());
            handler.vote(draw(), draw(), draw());
            handler.revealVotes(draw(), draw(), draw());
            handler.tally(draw(), draw());
            for (uint256 who; who < 9; ++who) {
                if (i % 2 == 0) handler.appeal(i, who, 0);
            }
            if (i % 2 == 0) handler.wait(draw());
            handler.execute(draw(), draw());
            handler.settleOrExpire(draw(), draw());
            handler.money(draw(), draw());
            // Late in the walk, or too few are left to audit.
            if (i > 20) handler.membership(draw(), draw());
        }
        string[11] memory steps = [
            "work", "audit", "reveal", "close", "challenge", "vote", "revealVote", "tally", "appeal", "execute", "leave"
        ];
        for (uint256 i; i < steps.length; ++i) {
            vm.assertGe(handler.done(steps[i]), 1, steps[i]);
        }
        invariant_EveryContractHoldsWhatItOwes();
        invariant_BondsAreThoseOfOpenDisputes();
        afterInvariant();
    }

    /// @dev Every task challenged, whoever comes judges it: juries with a quorum, without one, and nobody.
    function test_HandlerReachesOutcomesOfEveryKind() public {
        for (uint256 i; i < 14; ++i) {
            handler.work(draw() | 1, uint96(draw()), 0);
            uint256 last = handler.count() - 1;
            handler.challenge(last, 0);
            handler.challenge(last + handler.count(), 0);
            handler.close(last, 0);
            for (uint256 call; call < 3; ++call) {
                if (i % 4 != 0) handler.vote(last, draw() | 1, 0);
            }
            // A full jury reveals at once, one with empty seats when nobody may come any more.
            for (uint256 call; call < 2; ++call) {
                handler.revealVotes(last, draw(), 0);
                handler.wait(84);
            }
            handler.tally(last, 0);
            handler.wait(50);
            handler.execute(last, 0);
        }
        uint256 decided = handler.done("guilty") + handler.done("innocent");
        uint256 paid = handler.done("upheld") + handler.done("unheard");
        vm.assertGe(decided, 1, "with a quorum");
        vm.assertGe(paid, 1, "without one");
        invariant_EveryContractHoldsWhatItOwes();
        invariant_OutcomesHaveTheirQuorum();
        afterInvariant();
    }

    /// @dev Money is conserved in all three contracts, so no path pays twice, or pays and refunds.
    function invariant_EveryContractHoldsWhatItOwes() public view {
        vm.assertEq(token.balanceOf(address(court)), court.pool() + court.bonds() + handler.credits(), "arbiter");
        vm.assertEq(token.balanceOf(address(board)), balances() + escrow(), "board");
        uint256 sum;
        for (uint256 i; i < nodeCount(); ++i) {
            sum += stakeOf(nodeAt(i));
        }
        vm.assertEq(token.balanceOf(address(registry)), sum, "registry");
    }

    function invariant_BondsAreThoseOfOpenDisputes() public view {
        uint256 sum;
        for (uint256 i; i < handler.count(); ++i) {
            (, bytes32 id) = handler.filingAt(i);
            DisputeView memory dispute = court.disputeOf(id);
            if (dispute.phase == DisputePhase.Executed) continue;
            if (court.auditOf(id).challenged) sum += BOND;
            if (dispute.level == 1) sum += 3 * BOND;
        }
        vm.assertEq(court.bonds(), sum, "bonds");
    }

    /// @dev Votes never exceed seats, seats never the jury, and whatever was counted is what the votes come to.
    function invariant_OutcomesHaveTheirQuorum() public view {
        for (uint256 i; i < handler.count(); ++i) {
            (, bytes32 id) = handler.filingAt(i);
            DisputeView memory dispute = court.disputeOf(id);
            vm.assertLe(dispute.seats, 3, "seats");
            vm.assertLe(dispute.revealed, dispute.seats, "revealed");
            vm.assertLe(uint256(dispute.good) + dispute.bad, dispute.revealed, "votes");
            if (dispute.phase == DisputePhase.None) continue;
            DisputeOutcome first = handler.firstOutcome(id);
            bool counted = dispute.phase != DisputePhase.Voting;
            vm.assertEq(uint8(dispute.outcome), uint8(counted ? cameTo(id, dispute, first) : first), "outcome");
        }
    }

    /// @dev Of a first jury, and of a second one: an acquittal and doubt stand without it, a conviction leaves doubt.
    function cameTo(bytes32 id, DisputeView memory dispute, DisputeOutcome first)
        private
        view
        returns (DisputeOutcome)
    {
        if (dispute.bad >= 2) return DisputeOutcome.Guilty;
        if (dispute.good >= 2) return DisputeOutcome.Innocent;
        if (dispute.level == 1) return first == DisputeOutcome.Guilty ? DisputeOutcome.Undecided : first;
        // With a quorum of two only both auditors together put work in doubt; anybody alone does not.
        AuditView memory audit = court.auditOf(id);
        if (uint8(audit.verdicts[0]) > PASS && uint8(audit.verdicts[1]) > PASS) return DisputeOutcome.Undecided;
        return dispute.revealed >= 2 ? DisputeOutcome.Upheld : DisputeOutcome.Unheard;
    }

    /// @dev One stranger ends everything by waiting and calling; then all money can be taken out to the last unit.
    function afterInvariant() public {
        for (uint256 round; round < 5; ++round) {
            skip(400);
            for (uint256 i; i < handler.count(); ++i) {
                end(i);
            }
        }
        for (uint256 i; i < handler.count(); ++i) {
            (, bytes32 id) = handler.filingAt(i);
            (uint8 state,,,) = board.taskOf(id);
            vm.assertTrue(state >= uint8(TaskState.Settled) && state != uint8(TaskState.Held), "a task is stuck");
            AuditPhase phase = court.auditOf(id).phase;
            bool disputed = court.disputeOf(id).phase == DisputePhase.Executed;
            vm.assertTrue(phase == AuditPhase.None || disputed, "an audit is stuck");
        }
        empty();
    }

    function end(uint256 i) private {
        (Filing memory filing, bytes32 id) = handler.filingAt(i);
        if (court.auditOf(id).phase == AuditPhase.Open) {
            vm.prank(bob);
            court.closeAudit(filing);
        }
        DisputePhase phase = court.disputeOf(id).phase;
        if (phase == DisputePhase.Tallied) {
            vm.prank(bob);
            court.execute(filing);
        } else if (phase == DisputePhase.Voting && vm.getBlockTimestamp() > court.disputeOf(id).revealBy) {
            vm.prank(bob);
            court.tally(id);
        }
        (uint8 state,,,) = board.taskOf(id);
        if (state == uint8(TaskState.Committed)) board.settle(one(filing.terms));
        else if (state < uint8(TaskState.Settled) || state == uint8(TaskState.Held)) tryExpire(filing);
    }

    function tryExpire(Filing memory filing) private {
        try board.expire(filing.terms) {} catch {}
    }

    function empty() private {
        court.collect();
        address[] memory all = handler.people();
        for (uint256 i; i < all.length; ++i) {
            if (all[i] == BURN && court.creditOf(BURN) != 0) court.burn();
            if (court.creditOf(all[i]) != 0) {
                vm.prank(all[i]);
                court.withdraw();
            }
            uint256 balance = board.balanceOf(all[i]);
            if (balance == 0) continue;
            vm.prank(all[i]);
            board.withdraw(balance);
        }
        for (uint256 i; i < 2 * nodeCount(); ++i) {
            address node = nodeAt(i % nodeCount());
            (,,,, uint8 state,,) = registry.nodeOf(node);
            if (i == nodeCount()) skip(1001);
            if (state == uint8(NodeState.None)) continue;
            vm.prank(node);
            if (state != uint8(NodeState.Unbonding)) registry.beginUnbond();
            else if (i >= nodeCount()) registry.withdrawStake();
        }
        vm.assertEq(token.balanceOf(address(board)), 0, "money is stuck in the board");
        vm.assertEq(court.bonds(), 0, "a bond is stuck");
        vm.assertEq(token.balanceOf(address(court)), court.pool(), "the arbiter keeps more than its pool");
        vm.assertLe(court.pool(), 5 ether, "the pool keeps more than its reserve");
    }

    function balances() private view returns (uint256 sum) {
        address[] memory all = handler.people();
        for (uint256 i; i < all.length; ++i) {
            sum += board.balanceOf(all[i]);
        }
    }

    /// @dev Fees of open tasks, and audit fees that neither the arbiter nor the requester has yet.
    function escrow() private view returns (uint256 sum) {
        for (uint256 i; i < handler.count(); ++i) {
            (Filing memory filing, bytes32 id) = handler.filingAt(i);
            (uint8 state,,,) = board.taskOf(id);
            bool open = (state > 0 && state < uint8(TaskState.Settled)) || state == uint8(TaskState.Held);
            if (!open) continue;
            sum += filing.terms.fee;
            bool always = filing.terms.audit == uint8(AuditMode.Always);
            if (always && handler.heldAt(id) == 0) sum += AUDIT_FEE;
        }
    }

    function draw() private returns (uint256) {
        return uint256(keccak256(abi.encode("walk", ++draws)));
    }
}
