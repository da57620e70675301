// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DisputeOutcome, Filing} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev Juries without a quorum for either side: what puts work in doubt, who is paid, and that nobody gains alone.
contract UndecidedTest is DisputeFixture {
    // ------------------------------------------------------------------ in doubt: nobody has the fee

    function test_HalfAQuorumOfBadBurnsTheFee() public {
        uint256 pool = funded();
        Filing memory filing = disputed(FLAG, PASS);
        uint256 before = board.balanceOf(carol);
        voted(idOf(filing), 3, ballots(2, 2, 1));
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Undecided);
        vm.assertEq(board.balanceOf(carol), before, "the requester gains nothing");
        vm.assertEq(court.creditOf(BURN), FEE, "nor does the pool");
        unharmed();
        vm.assertEq(court.creditOf(nodeAt(1)), AUDITOR_FEE, "a flag that jurors share");
        vm.assertEq(court.creditOf(nodeAt(2)), AUDITOR_FEE, "a pass that no quorum calls wrong");
        vm.assertEq(court.pool(), pool + AUDIT_FEE - 2 * AUDITOR_FEE, "a divided jury costs the pool nothing");
    }

    function test_TwoAccusingAuditorsBurnTheFeeWhateverJurorsCanTell() public {
        for (uint256 i; i < 3; ++i) {
            funded();
            Filing memory filing = disputed(i == 1 ? WITHHELD : FLAG, i == 2 ? WITHHELD : FLAG);
            uint256 before = board.balanceOf(carol);
            if (i == 0) noJury(filing);
            else voted(idOf(filing), 3, votesOf(5, CANNOT_TELL));
            uint256 flagger = court.creditOf(nodeAt(i == 1 ? 2 : 1));
            uint256 alarmist = court.creditOf(nodeAt(i == 1 ? 1 : 2));
            executed(filing);
            assertOutcome(filing, DisputeOutcome.Undecided);
            vm.assertEq(board.balanceOf(carol), before);
            vm.assertEq(court.creditOf(BURN), (i + 1) * FEE);
            unharmed();
            vm.assertEq(court.creditOf(nodeAt(i == 1 ? 2 : 1)) - flagger, AUDITOR_FEE);
            if (i > 0) vm.assertEq(court.creditOf(nodeAt(i == 1 ? 1 : 2)), alarmist, "withheld takes no work to say");
        }
    }

    /// @dev A pool that has nothing takes nothing from what is burned, and the board holds no more of it.
    function test_AnEmptyPoolBurnsTheWholeFee() public {
        Filing memory filing = disputed(FLAG, FLAG);
        noJury(filing);
        executed(filing);
        vm.assertEq(court.creditOf(BURN), FEE);
        vm.assertEq(board.balanceOf(address(court)), 0);
        court.burn();
        vm.assertEq(token.balanceOf(BURN), FEE);
    }

    /// @dev Too late to rule, but nobody has taken the task from the board yet: waiting refunds nobody.
    function test_DoubtAfterTheHoldBurnsAllTheSame() public {
        Filing memory filing = disputed(FLAG, FLAG);
        uint256 before = board.balanceOf(carol);
        noJury(filing);
        skip(2000);
        court.execute(filing);
        vm.assertEq(board.balanceOf(carol), before);
        vm.assertEq(court.creditOf(BURN), FEE);
    }

    /// @dev What anyone took from the board after the hold window is the requester's; the arbiter burns nothing of its own.
    function test_DoubtOfAnExpiredTaskBurnsNothing() public {
        funded();
        Filing memory filing = disputed(FLAG, FLAG);
        noJury(filing);
        skip(2000);
        board.expire(filing.terms);
        uint256 pool = court.pool();
        court.execute(filing);
        vm.assertEq(court.creditOf(BURN), 0);
        vm.assertEq(court.pool(), pool + AUDIT_FEE - 2 * AUDITOR_FEE, "the audit fee came in, nothing went out");
    }

    function test_DoubtStartsVettingAnew() public {
        audited(filed(), PASS, PASS);
        vm.assertEq(court.passedOf(worker()), 1);
        judged(FLAG, PASS, ballots(0, 0, 5));
        vm.assertEq(court.passedOf(worker()), 1, "one voice raises no rate");
        judged(FLAG, FLAG, ballots(0, 0, 5));
        vm.assertEq(court.passedOf(worker()), 0, "its rate rises");
    }

    // ------------------------------------------------------------------ one voice: paid

    /// @dev The requester alone. Nobody is paid by how it voted: "good" from who cannot tell would be money for nothing.
    function test_AChallengeThatNobodyCanTellIsLost() public {
        uint256 pool = funded();
        Filing memory filing = challenged();
        voted(idOf(filing), 3, ballots(2, 0, 3));
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Upheld);
        paid(filing);
        vm.assertEq(court.creditOf(carol), 0);
        vm.assertEq(court.bonds(), 0);
        for (uint256 i = 3; i < 8; ++i) {
            vm.assertEq(court.creditOf(nodeAt(i)), 0, "a vote is paid without a verdict");
        }
        vm.assertEq(court.pool(), pool + BOND);
        unharmed();
    }

    /// @dev A requester and one juror are one voice too many: neither gets anything.
    function test_OneJurorPutsNothingInDoubt() public {
        uint256 pool = funded();
        Filing memory filing = challenged();
        voted(idOf(filing), 3, ballots(0, 1, 4));
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Upheld);
        paid(filing);
        vm.assertEq(court.pool(), pool + BOND);
        vm.assertEq(court.creditOf(nodeAt(3)), 0, "nor is it paid");
        unharmed();
    }

    /// @dev An auditor that says anything without working: the node is paid, the auditor is not.
    function test_OneAuditorPutsNothingInDoubt() public {
        for (uint256 i; i < 2; ++i) {
            uint256 pool = funded();
            Filing memory filing = disputed(i == 0 ? WITHHELD : FLAG, PASS);
            uint256 passer = court.creditOf(nodeAt(2));
            voted(idOf(filing), 3, ballots(2, 1, 2));
            executed(filing);
            assertOutcome(filing, DisputeOutcome.Upheld);
            paid(filing);
            vm.assertEq(court.creditOf(nodeAt(1)), 0);
            vm.assertEq(court.creditOf(nodeAt(2)) - passer, AUDITOR_FEE);
            vm.assertEq(court.pool(), pool - AUDITOR_FEE, "the pool pays no jury that found nothing");
            unharmed();
        }
    }

    /// @dev The other seat stayed empty: still one voice.
    function test_ALoneAuditorPutsNothingInDoubt() public {
        Filing memory filing = filed(AuditMode.Always);
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        skip(AUDIT_COMMIT);
        revealAs(nodeAt(1), filing, WITHHELD, noise(1));
        court.closeAudit(filing);
        skip(AUDIT_REVEAL);
        noJury(filing);
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Unheard);
        paid(filing);
    }

    /// @dev Two passes with unlike numbers, and a jury that cannot say whose are wrong.
    function test_ALazyAuditorCostsTheNodeNothing() public {
        Filing memory filing = filed(AuditMode.Always);
        audited(filing, PASS, PASS, noise(1), noise(2));
        voted(idOf(filing), 3, votesOf(5, CANNOT_TELL));
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Upheld);
        paid(filing);
    }

    /// @dev Whatever the others do: as long as no quorum forms, a juror that cannot tell gets nothing more by saying "good".
    function testFuzz_NoVoteIsWorthAnythingWithoutAVerdict(uint256 seed) public {
        Trial memory trial = trialOf(seed);
        if (trial.good >= 3 || trial.bad >= 3) return;
        funded();
        Filing memory filing = bonded(trial.bond, trial.first, trial.second);
        cast(idOf(filing), trial.votes);
        executed(filing);
        for (uint256 i; i < trial.votes.length; ++i) {
            vm.assertEq(court.creditOf(nodeAt(3 + i)), 0, "paid by what it voted");
            vm.assertEq(stakeOf(nodeAt(3 + i)), 2 * STAKE, "or charged for it");
        }
    }

    // ------------------------------------------------------------------ nobody came

    /// @dev No jury, and no seed either: time alone ends it, as an audit that nobody revealed.
    function test_AChallengeThatNobodyHearsChangesNothing() public {
        uint256 pool = funded();
        Filing memory filing = challenged();
        noJury(filing);
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Unheard);
        paid(filing);
        vm.assertEq(court.creditOf(carol), BOND);
        vm.assertEq(court.pool(), pool);
    }

    /// @dev Too few votes are no hearing. They cost who cast them nothing, and earn nothing: a ring whose model nobody
    /// else has could hear itself for ever.
    function test_AJuryThatIsTooSmallEarnsNothing() public {
        uint256 pool = funded();
        Filing memory filing = challenged();
        bytes32 id = idOf(filing);
        summoned(id);
        commitVoteAs(nodeAt(3), id, GOOD);
        commitVoteAs(nodeAt(4), id, GOOD);
        vm.warp(court.disputeOf(id).commitBy + 1);
        revealVoteAs(nodeAt(3), id, GOOD);
        vm.warp(court.disputeOf(id).revealBy + 1);
        court.tally(id);
        executed(filing);
        assertOutcome(filing, DisputeOutcome.Unheard);
        paid(filing);
        vm.assertEq(court.creditOf(carol), BOND);
        vm.assertEq(court.creditOf(nodeAt(3)), 0);
        vm.assertEq(stakeOf(nodeAt(4)), 2 * STAKE - JUROR_PENALTY, "silence costs what it always does");
        vm.assertEq(court.pool(), pool + JUROR_PENALTY);
    }

    // ------------------------------------------------------------------ every combination

    struct Trial {
        uint8 first;
        uint8 second;
        bool bond;
        uint8[] votes;
        uint256 good;
        uint256 bad;
    }

    /// @dev Any verdicts, any votes: the table of `DisputeOutcome`, to the wei.
    function testFuzz_TheTableHolds(uint256 seed) public {
        Trial memory trial = trialOf(seed);
        uint256 pool = funded();
        Filing memory filing = bonded(trial.bond, trial.first, trial.second);
        uint256 requester = board.balanceOf(carol);
        cast(idOf(filing), trial.votes);
        executed(filing);
        if (trial.good >= 3 || trial.bad >= 3) return;
        bool doubt = (trial.first != PASS && trial.second != PASS) || trial.bad == 2;
        bool heard = trial.votes.length >= 3;
        assertOutcome(filing, doubt ? DisputeOutcome.Undecided : heard ? DisputeOutcome.Upheld : DisputeOutcome.Unheard);
        assertState(filing.terms, doubt ? TaskState.Expired : TaskState.Committed);
        vm.assertEq(board.balanceOf(carol), requester, "no fee comes back without a verdict");
        vm.assertEq(court.creditOf(BURN), doubt ? FEE : 0, "burned");
        unharmed();
        assertMoney(trial, pool, doubt, heard);
    }

    function assertMoney(Trial memory trial, uint256 pool, bool doubt, bool heard) private view {
        bool lostBond = trial.bond && !doubt && heard;
        vm.assertEq(court.creditOf(carol), trial.bond && !lostBond ? BOND : 0, "bond");
        uint256 auditors = (earns(trial.first, doubt) + earns(trial.second, doubt)) * AUDITOR_FEE;
        uint256 worth = court.pool() + board.balanceOf(address(court));
        vm.assertEq(worth, pool + AUDIT_FEE + (lostBond ? BOND : 0) - auditors, "pool");
        assertPurse(auditors + court.creditOf(carol) + court.creditOf(BURN));
    }

    function trialOf(uint256 seed) private pure returns (Trial memory trial) {
        (trial.first, trial.second) = (uint8(1 + seed % 3), uint8(1 + (seed >> 8) % 3));
        // Without an accuser it takes a bond to come before jurors.
        trial.bond = (seed >> 16) % 2 == 0 || (trial.first == PASS && trial.second == PASS);
        trial.votes = votesOf((seed >> 24) % 6, GOOD);
        for (uint256 i; i < trial.votes.length; ++i) {
            trial.votes[i] = uint8(1 + (seed >> (32 + 8 * i)) % 3);
            if (trial.votes[i] == GOOD) ++trial.good;
            if (trial.votes[i] == BAD) ++trial.bad;
        }
    }

    // ------------------------------------------------------------------ steps of these tests

    function earns(uint8 verdict, bool doubt) private pure returns (uint256) {
        return verdict == PASS || (verdict == FLAG && doubt) ? 1 : 0;
    }

    function bonded(bool bond, uint8 first, uint8 second) private returns (Filing memory filing) {
        filing = filed(AuditMode.Always);
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        if (bond) {
            vm.prank(carol);
            court.challenge(filing);
        }
        revealedBoth(filing, first, second, noise(1), noise(1));
    }

    function cast(bytes32 id, uint8[] memory votes) private {
        if (votes.length == 5) return voted(id, 3, votes);
        summoned(id);
        for (uint256 i; i < votes.length; ++i) {
            commitVoteAs(nodeAt(3 + i), id, votes[i]);
        }
        vm.warp(court.disputeOf(id).commitBy + 1);
        for (uint256 i; i < votes.length; ++i) {
            revealVoteAs(nodeAt(3 + i), id, votes[i]);
        }
        if (votes.length == 0) vm.warp(court.disputeOf(id).revealBy + 1);
        court.tally(id);
    }

    function judged(uint8 first, uint8 second, uint8[] memory votes) private {
        Filing memory filing = disputed(first, second);
        voted(idOf(filing), 3, votes);
        executed(filing);
    }

    function challenged() private returns (Filing memory filing) {
        filing = filed(AuditMode.None);
        vm.prank(carol);
        court.challenge(filing);
    }

    function ballots(uint256 good, uint256 bad, uint256 neither) private pure returns (uint8[] memory votes) {
        votes = votesOf(good + bad + neither, CANNOT_TELL);
        for (uint256 i; i < good + bad; ++i) {
            votes[i] = i < bad ? BAD : GOOD;
        }
    }

    function assertOutcome(Filing memory filing, DisputeOutcome wanted) private view {
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).outcome), uint8(wanted), "outcome");
    }

    function paid(Filing memory filing) private {
        assertState(filing.terms, TaskState.Committed);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    function unharmed() private view {
        for (uint256 i; i < nodeCount(); ++i) {
            vm.assertEq(stakeOf(nodeAt(i)), i == 0 ? 8 * STAKE : 2 * STAKE, "stake moved without a verdict");
        }
    }
}
