// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ArbiterRules, DisputeOutcome, Filing, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev Two accusing auditors put work in doubt only where chance seated both: whoever owns two wallets and a model that
/// nobody else can run has both seats for certain, if it waits.
contract LotsTest is DisputeFixture {
    uint8 private constant DOUBLINGS = 1;

    function arbiterRules() internal view override returns (ArbiterRules memory rules_) {
        rules_ = super.arbiterRules();
        rules_.lotDoublings = DOUBLINGS;
    }

    /// @dev However late they came: the score counts, not the second. Each pair of lots comes up.
    function testFuzz_OnlyLotsCastDoubt(uint64 fresh, uint8 wait) public {
        nonce = fresh / 2;
        Filing memory filing = filed(AuditMode.Always);
        bool both = chosen(filing, 1) && chosen(filing, 2);
        skip(wait % 30);
        ends(filing, both ? DisputeOutcome.Undecided : DisputeOutcome.Upheld);
    }

    function test_EveryPairOfLots() public {
        uint256 seen;
        for (uint256 i; seen != 15 && i < 200; ++i) {
            Filing memory filing = filed(AuditMode.Always);
            (bool first, bool second) = (chosen(filing, 1), chosen(filing, 2));
            uint256 pair = 1 << ((first ? 2 : 0) + (second ? 1 : 0));
            if (seen & pair != 0) continue;
            seen |= pair;
            ends(filing, first && second ? DisputeOutcome.Undecided : DisputeOutcome.Upheld);
        }
        vm.assertEq(seen, 15, "all four came up");
    }

    /// @dev A late voice is still one: with half of a quorum of jurors it puts work in doubt, and a quorum convicts as ever.
    function test_LateFlagsBringItBeforeJurorsAllTheSame() public {
        Filing memory filing = late();
        audited(filing, FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(stakeOf(worker()), 8 * STAKE - PENALTY);
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE);
    }

    function ends(Filing memory filing, DisputeOutcome wanted) private {
        uint256 before = board.balanceOf(carol);
        audited(filing, FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, CANNOT_TELL));
        executed(filing);
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(wanted), "outcome");
        bool doubt = wanted == DisputeOutcome.Undecided;
        assertState(filing.terms, doubt ? TaskState.Expired : TaskState.Committed);
        vm.assertEq(board.balanceOf(carol), before, "no fee comes back by doubt");
    }

    function late() private returns (Filing memory filing) {
        do {
            filing = filed(AuditMode.Always);
        } while (chosen(filing, 1) || chosen(filing, 2));
    }

    function chosen(Filing memory filing, uint256 who) private returns (bool) {
        bytes32 value = pokeFor(filing);
        (uint32 weight, uint64 total,) = board.seatOf(nodeAt(who));
        uint256 score = Sortition.score(uint80(uint256(value)), idOf(filing), nodeAt(who));
        return score <= Sortition.threshold(total, 2 * uint256(weight), DOUBLINGS, 1);
    }
}

/// @dev A live network's juries: the threshold does not rise before the seats close, so that who alone can run some work
/// has no more of the jury than its stake is drawn for, however long it waits and however few others come.
contract JuryByLotTest is DisputeFixture {
    function arbiterRules() internal view override returns (ArbiterRules memory rules_) {
        rules_ = super.arbiterRules();
        rules_.juryStep = VOTE_COMMIT + 1;
    }

    function test_WaitingSeatsNobody() public {
        uint256 drawn;
        for (uint256 i; i < 4; ++i) {
            Filing memory filing = filed(AuditMode.None);
            vm.prank(carol);
            court.challenge(filing);
            bytes32 id = idOf(filing);
            uint80 seed = summoned(id);
            vm.warp(court.disputeOf(id).commitBy);
            for (uint256 who = 1; who < nodeCount() && court.disputeOf(id).seats < 5; ++who) {
                (uint32 weight, uint64 total,) = board.seatOf(nodeAt(who));
                uint256 limit = Sortition.threshold(total, weight * 5, 0, 1);
                uint256 score = Sortition.score(seed, id, nodeAt(who));
                if (score > limit) {
                    vm.expectRevert(abi.encodeWithSelector(IArbiter.SortitionNotReached.selector, score, limit));
                } else {
                    ++drawn;
                }
                vm.prank(nodeAt(who));
                court.commitVote(id, voteSeal(id, 0, nodeAt(who), BAD));
            }
        }
        vm.assertGe(drawn, 8, "the lot seats about five of fourteen");
        vm.assertLe(drawn, 24);
    }
}
