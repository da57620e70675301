// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BlockBeacon} from "../../src/BlockBeacon.sol";
import {DevToken} from "../../src/DevToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskBoard} from "../../src/TaskBoard.sol";
import {
    AuditPhase,
    AuditView,
    DisputeOutcome,
    DisputePhase,
    DisputeView,
    Filing,
    IArbiter
} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {commitmentOfRoots} from "../../src/libraries/TaskWord.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Hostile actors around audits: nodes that vanish, auditors that guess, flag at will or never reveal, jurors that vote
/// both ways, requesters that challenge everything. Anything may be tried at any time; what is refused is no matter, what
/// is done is checked.
contract CourtHandler is AuditFixture {
    uint256 public constant NODES = 7;

    Filing[] private _filings;
    mapping(bytes32 taskId => uint256) public heldAt;
    mapping(bytes32 taskId => bool) public appealed;
    mapping(bytes32 taskId => DisputeOutcome) public firstOutcome;
    mapping(string step => uint256) public done;
    uint256 public staked;
    uint256 public unstaked;

    constructor(
        DevToken token_,
        NodeRegistry registry_,
        TaskBoard board_,
        BlockBeacon beacon_,
        IArbiter court_,
        uint64 model_
    ) {
        (token, registry, board, beacon, court, model) = (token_, registry_, board_, beacon_, court_, model_);
        nonce = 1_000_000;
    }

    function setUp() public override {}

    /// @dev Small steps of time, so that windows are hit from both sides.
    modifier after_(uint256 seconds_) {
        skip(seconds_ % 25);
        _;
        _noteHolds();
    }

    // ------------------------------------------------------------------ tasks

    function work(uint256 seed, uint96 fee, uint256 time) external after_(time) {
        if (_filings.length >= 14) return;
        Terms memory terms = termsOf(seed % 2 == 0 ? carol : alice, model);
        (terms.audit, terms.fee) = (uint8((seed >> 8) % 3), uint96(clamp(fee, 1000, 5 ether)));
        terms.kind = uint8(1 + (seed >> 32) % 2);
        address node = nodeAt((seed >> 16) % NODES);
        vm.prank(terms.requester);
        try board.submit(terms) {}
        catch {
            return;
        }
        (bytes32 result, bytes32 trace) = (keccak256(abi.encode(seed)), keccak256(abi.encode(fee)));
        _filings.push(Filing(terms, commitmentOfRoots(result, trace)));
        if (board.weightOf(node) == 0) return;
        waitForTurn(terms, node);
        vm.prank(node);
        try board.claim(terms) {}
        catch {
            return;
        }
        if ((seed >> 24) % 8 == 0) return;
        Filing memory filing = _filings[_filings.length - 1];
        vm.prank(node);
        // Trainings end early, and a part goes through audits and disputes like a whole.
        if (terms.kind == 1) board.commit(terms, result, trace);
        else board.commitPart(terms, result, trace, uint16((seed >> 40) % 10_000));
        (bytes32 value, uint64 round) = court.challengeOf(filing);
        vm.assertEq(value, bytes32(0), "the challenge was known when the root was accepted");
        vm.assertTrue(beacon.startOf(round) > vm.getBlockTimestamp(), "the round had begun");
        done["work"]++;
    }

    function settleOrExpire(uint256 task, uint256 time) external after_(time) {
        if (_filings.length == 0) return;
        Filing memory filing = _filings[task % _filings.length];
        board.settle(one(filing.terms));
        try board.expire(filing.terms) {} catch {}
    }

    // ------------------------------------------------------------------ audits

    function audit(uint256 task, uint256 seed, uint256 time) external after_(time) {
        (bool found, Filing memory filing, bytes32 id) = pick(task, AuditPhase.Open, TaskState.Committed);
        if (!found) return;
        (, uint64 round) = court.challengeOf(filing);
        if (seed % 16 != 0) poke(round);
        (bytes32 value,) = court.challengeOf(filing);
        uint256[NODES] memory before = stakes();
        for (uint256 i; i < NODES; ++i) {
            address node = nodeAt((seed % NODES + i) % NODES);
            bytes32 stale = sealOf(~value, id, node, projectionOf(id, node));
            vm.prank(node);
            try court.commitAudit(filing, stale) {
                vm.assertTrue(false, "a seal of another draw took a seat");
            } catch {}
            vm.prank(node);
            try court.commitAudit(filing, sealOf(value, id, node, projectionOf(id, node))) {
                done["audit"]++;
            } catch {}
            if (i % 2 == 0) skip(1);
        }
        unchanged(before);
    }

    function reveal(uint256 task, uint256 seed, uint256 time) external after_(time) {
        (bool found,, bytes32 id) = pick(task, AuditPhase.Open, TaskState.Held);
        if (!found) return;
        uint256[NODES] memory before = stakes();
        address[2] memory auditors = court.auditOf(id).auditors;
        for (uint256 i; i < 2; ++i) {
            // One in four never reveals; of the others half pass, and half flag or speak of withheld openings.
            uint256 mood = (seed >> (8 * i)) % 8;
            bool gone = uint256(keccak256(abi.encode(id, auditors[i], "gone"))) % 4 == 0;
            if (auditors[i] == address(0) || gone) continue;
            uint8 verdict = mood < 5 ? PASS : mood < 7 ? FLAG : WITHHELD;
            vm.prank(auditors[i]);
            try court.revealAudits(said(id, verdict, projectionOf(id, auditors[i]), saltOf(auditors[i]))) {
                done["reveal"]++;
            } catch {}
        }
        unchanged(before);
    }

    /// @dev Only auditors without a verdict lose stake, and no more than the penalty.
    function close(uint256 task, uint256 time) external after_(time) {
        (bool found, Filing memory filing, bytes32 id) = pick(task, AuditPhase.Open, TaskState.Held);
        if (!found) return;
        AuditView memory record = court.auditOf(id);
        uint256[NODES] memory before = stakes();
        try court.closeAudit(filing) {
            done["close"]++;
        } catch {}
        for (uint256 i; i < NODES; ++i) {
            bool silent = (record.auditors[0] == nodeAt(i) && uint8(record.verdicts[0]) == 0)
                || (record.auditors[1] == nodeAt(i) && uint8(record.verdicts[1]) == 0);
            vm.assertLe(before[i] - stakeOf(nodeAt(i)), silent ? AUDITOR_PENALTY : 0, "a wrong one was penalised");
        }
    }

    function challenge(uint256 task, uint256 time) external after_(time) {
        if (_filings.length == 0 || task % 3 == 0) return;
        Filing memory filing = _filings[task % _filings.length];
        uint256 before = token.balanceOf(address(court));
        pay(filing.terms.requester, BOND);
        vm.prank(filing.terms.requester);
        try court.challenge(filing) {
            vm.assertEq(token.balanceOf(address(court)) - before, BOND);
            done["challenge"]++;
        } catch {
            vm.assertEq(token.balanceOf(address(court)), before);
        }
    }

    // ------------------------------------------------------------------ disputes

    function vote(uint256 task, uint256 seed, uint256 time) external after_(time) {
        (bool found,, bytes32 id) = pick(task, DisputePhase.Voting);
        if (!found) return;
        if (seed % 16 != 0) poke(court.disputeOf(id).round);
        uint8 level = court.disputeOf(id).level;
        uint256[NODES] memory before = stakes();
        for (uint256 i; i < NODES; ++i) {
            address node = nodeAt((seed % NODES + i) % NODES);
            vm.prank(node);
            try court.commitVote(id, voteSeal(id, level, node, voteOf(id, level, node))) {
                done["vote"]++;
            } catch {}
            skip(i % 3);
        }
        unchanged(before);
    }

    function revealVotes(uint256 task, uint256 seed, uint256 time) external after_(time) {
        (bool found,, bytes32 id) = pick(task, DisputePhase.Voting);
        if (!found) return;
        uint8 level = court.disputeOf(id).level;
        address[] memory jurors = court.jurorsOf(id, level);
        for (uint256 i; i < jurors.length; ++i) {
            if ((seed >> (8 * i)) % 8 == 0) continue;
            vm.prank(jurors[i]);
            try court.revealVote(id, voteOf(id, level, jurors[i]), saltOf(jurors[i])) {
                done["revealVote"]++;
            } catch {}
        }
    }

    function tally(uint256 task, uint256 time) external after_(time) {
        (bool found,, bytes32 id) = pick(task, DisputePhase.Voting);
        if (!found) return;
        try court.tally(id) {
            done["tally"]++;
        } catch {}
    }

    function appeal(uint256 task, uint256 who, uint256 time) external after_(time) {
        (bool found,, bytes32 id) = pick(task, DisputePhase.Tallied);
        if (!found) return;
        address party = who % 9 < NODES ? nodeAt(who % 9) : who % 9 == 7 ? carol : alice;
        pay(party, 3 * BOND);
        DisputeOutcome first = court.disputeOf(id).outcome;
        vm.prank(party);
        try court.appeal(id) {
            (appealed[id], firstOutcome[id]) = (true, first);
            done["appeal"]++;
        } catch {}
    }

    /// @dev A node is slashed by a quorum or not at all, never more than it has, and every base unit is accounted for.
    function execute(uint256 task, uint256 time) external after_(time) {
        (bool found, Filing memory filing, bytes32 id) = pick(task, DisputePhase.Tallied);
        if (!found) return;
        (uint8 was,, uint40 since,) = board.taskOf(id);
        uint256 earned = earnedByJurors(id);
        carryOut(filing, id);
        DisputeView memory dispute = court.disputeOf(id);
        if (uint8(dispute.outcome) > uint8(DisputeOutcome.Innocent)) {
            vm.assertEq(earnedByJurors(id), earned, "a vote was paid without a verdict");
        }
        if (dispute.phase != DisputePhase.Executed || was != uint8(TaskState.Held)) return;
        bool pays = dispute.outcome != DisputeOutcome.Guilty && dispute.outcome != DisputeOutcome.Undecided;
        if (vm.getBlockTimestamp() > since + 1000) pays = false;
        (uint8 state,,,) = board.taskOf(id);
        vm.assertEq(state, uint8(pays ? TaskState.Committed : TaskState.Expired), "paid against the table");
    }

    function earnedByJurors(bytes32 id) private view returns (uint256 sum) {
        for (uint8 level; level < 2; ++level) {
            address[] memory jurors = court.jurorsOf(id, level);
            for (uint256 i; i < jurors.length; ++i) {
                sum += court.creditOf(jurors[i]);
            }
        }
    }

    function carryOut(Filing memory filing, bytes32 id) private {
        uint256[NODES] memory before = stakes();
        uint256 purse = court.pool() + court.bonds() + credits();
        uint256 owed = board.balanceOf(address(court));
        DisputeView memory dispute = court.disputeOf(id);
        (uint8 was,,,) = board.taskOf(id);
        if (dispute.outcome == DisputeOutcome.Undecided && was == uint8(TaskState.Held)) owed += earnedOf(filing, id);
        try court.execute(filing) {
            done["execute"]++;
            done[["", "guilty", "innocent", "undecided", "upheld", "unheard"][uint8(dispute.outcome)]]++;
        } catch {
            return;
        }
        uint256 taken;
        (, address worker_,,) = board.recordOf(id);
        for (uint256 i; i < NODES; ++i) {
            uint256 lost = before[i] - stakeOf(nodeAt(i));
            taken += lost;
            bool guilty = nodeAt(i) == worker_ && dispute.outcome == DisputeOutcome.Guilty;
            if (guilty) vm.assertGe(dispute.bad, 2, "slashed without a quorum");
            if (nodeAt(i) == worker_ && !guilty) vm.assertEq(lost, 0, "slashed without a verdict");
            if (nodeAt(i) != worker_) {
                vm.assertLe(lost, AUDITOR_PENALTY + 2 * JUROR_PENALTY, "penalties add up to more");
            }
        }
        uint256 collected = owed - board.balanceOf(address(court));
        vm.assertEq(court.pool() + court.bonds() + credits(), purse + taken + collected, "slashed sums went elsewhere");
    }

    /// @dev What of a fee is in doubt: of a part its share, as the rest is the requester's anyway.
    function earnedOf(Filing memory filing, bytes32 id) private view returns (uint256) {
        (uint16 doneBps,) = board.doneOf(id);
        return uint256(filing.terms.fee) * doneBps / 10_000;
    }

    // ------------------------------------------------------------------ money and membership

    function money(uint256 seed, uint256 time) external after_(time) {
        address[] memory all = people();
        address who = all[seed % all.length];
        court.collect();
        try court.burn() {} catch {}
        vm.prank(who);
        try court.withdraw() {} catch {}
        uint256 balance = board.balanceOf(who);
        if (balance == 0 || who == carol || who == alice || who == address(court)) return;
        vm.prank(who);
        board.withdraw(balance);
    }

    /// @dev Whoever may still lose stake cannot take it out in the time that a dispute can last.
    function membership(uint256 seed, uint256 time) external after_(time) {
        address node = nodeAt(seed % NODES);
        uint256 before = stakeOf(node);
        uint256 mood = (seed >> 8) % 8;
        if (before == 0) token.mint(node, 2 * STAKE);
        vm.prank(node);
        if (mood == 0) {
            try registry.beginUnbond() {} catch {}
        } else if (mood < 4) {
            try registry.withdrawStake() {
                unstaked += before;
                done["leave"]++;
                _mayLeave(node);
            } catch {}
        } else if (mood < 6) {
            try registry.resume() {} catch {}
        } else {
            try registry.register(abi.encodePacked(node), bytes32(uint256(1)), 2 * STAKE) {
                staked += 2 * STAKE;
            } catch {}
        }
    }

    function wait(uint256 time) external after_(time) {
        skip(time % 240);
    }

    // ------------------------------------------------------------------ views of the world

    function count() external view returns (uint256) {
        return _filings.length;
    }

    function filingAt(uint256 i) public view returns (Filing memory filing, bytes32 id) {
        filing = _filings[i];
        id = idOf(filing);
    }

    /// @dev Everybody who can hold money here or there.
    function people() public view returns (address[] memory all) {
        all = new address[](NODES + 6);
        for (uint256 i; i < NODES; ++i) {
            all[i] = nodeAt(i);
        }
        (all[NODES], all[NODES + 1], all[NODES + 2]) = (carol, alice, publisher);
        (all[NODES + 3], all[NODES + 4], all[NODES + 5]) = (surplus, BURN, address(court));
    }

    function credits() public view returns (uint256 sum) {
        address[] memory all = people();
        for (uint256 i; i < all.length; ++i) {
            sum += court.creditOf(all[i]);
        }
    }

    function stakes() public view returns (uint256[NODES] memory all) {
        for (uint256 i; i < NODES; ++i) {
            all[i] = stakeOf(nodeAt(i));
        }
    }

    // ------------------------------------------------------------------ internals

    /// @dev Most auditors run the step; one in eight makes numbers up.
    function projectionOf(bytes32 id, address node) private pure returns (bytes32) {
        return noise(uint256(keccak256(abi.encode(id, node))) % 8 == 0 ? uint256(uint160(node)) : 1);
    }

    function voteOf(bytes32 id, uint8 level, address juror) private pure returns (uint8) {
        uint256 mood = uint256(keccak256(abi.encode(id, level, juror, "mood")));
        // Jurors lean one way a task, so that all three outcomes come up.
        uint256 lean = uint256(keccak256(abi.encode(id, level))) % 3;
        uint8 opinion = mood % 4 == 0 ? uint8(1 + (mood >> 8) % 3) : lean == 0 ? GOOD : lean == 1 ? BAD : CANNOT_TELL;
        return opinion | uint8((mood >> 16) % 4 == 0 ? 4 : 0) | uint8((mood >> 24) % 4 == 0 ? 8 : 0);
    }

    function pay(address who, uint256 amount) private {
        token.mint(who, amount);
        vm.prank(who);
        token.approve(address(court), type(uint256).max);
    }

    function unchanged(uint256[NODES] memory before) private view {
        for (uint256 i; i < NODES; ++i) {
            vm.assertEq(stakeOf(nodeAt(i)), before[i], "stake moved without a penalty");
        }
    }

    function pick(uint256 task, AuditPhase phase, TaskState state)
        private
        view
        returns (bool found, Filing memory filing, bytes32 id)
    {
        for (uint256 i; i < _filings.length; ++i) {
            (filing, id) = filingAt((task % _filings.length + i) % _filings.length);
            (uint8 now_,,,) = board.taskOf(id);
            AuditPhase at = court.auditOf(id).phase;
            if (at == phase || (at == AuditPhase.None && now_ == uint8(state))) return (true, filing, id);
        }
    }

    function pick(uint256 task, DisputePhase phase)
        private
        view
        returns (bool found, Filing memory filing, bytes32 id)
    {
        for (uint256 i; i < _filings.length; ++i) {
            (filing, id) = filingAt((task % _filings.length + i) % _filings.length);
            if (court.disputeOf(id).phase == phase) return (true, filing, id);
        }
    }

    function _noteHolds() private {
        for (uint256 i; i < _filings.length; ++i) {
            (, bytes32 id) = filingAt(i);
            (uint8 state,, uint40 since,) = board.taskOf(id);
            if (state == uint8(TaskState.Held)) heldAt[id] = since;
            else if (heldAt[id] == 0 && court.auditOf(id).phase != AuditPhase.None) heldAt[id] = since;
        }
    }

    function _mayLeave(address node) private view {
        for (uint256 i; i < _filings.length; ++i) {
            (, bytes32 id) = filingAt(i);
            (uint8 state, address worker_,,) = board.recordOf(id);
            bool open = state == uint8(TaskState.Claimed) || state == uint8(TaskState.Committed)
                || state == uint8(TaskState.Held);
            vm.assertTrue(!(open && worker_ == node), "left with a task of its own open");
            AuditView memory record = court.auditOf(id);
            bool judging = record.phase == AuditPhase.Open
                || (record.phase == AuditPhase.Disputed && court.disputeOf(id).phase != DisputePhase.Executed);
            if (!judging || vm.getBlockTimestamp() > heldAt[id] + 526) continue;
            vm.assertTrue(record.auditors[0] != node && record.auditors[1] != node, "an auditor left too early");
            for (uint8 level; level < 2; ++level) {
                (bool seated,) = court.ballotOf(id, level, node);
                vm.assertTrue(!seated, "a juror left too early");
            }
        }
    }
}
