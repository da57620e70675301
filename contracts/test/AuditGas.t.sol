// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ArbiterRules, Filing, Reveal} from "../src/interfaces/IArbiter.sol";
import {AuditMode} from "../src/interfaces/ITaskBoard.sol";
import {AuditFixture} from "./base/AuditFixture.sol";

/// @dev What audits and disputes cost in a running system: everybody has been paid before. Whole transactions, committed
/// in snapshots/. Votes differ by a few hundred gas with the seat, so the first and the last are measured.
abstract contract AuditGas is AuditFixture {
    uint256 private constant GOAL = 250_000;

    function jurors() internal pure virtual returns (uint8);

    function group() internal pure virtual returns (string memory);

    function nodeCount() internal pure override returns (uint256) {
        return 3 + 2 * uint256(jurors());
    }

    function arbiterRules() internal view override returns (ArbiterRules memory rules_) {
        rules_ = super.arbiterRules();
        (rules_.jurors, rules_.appealJurors) = (jurors(), jurors());
        (rules_.quorum, rules_.appealQuorum) = (jurors() * 2 / 3, jurors() * 2 / 3);
        rules_.voteCommitWindow = VOTE_COMMIT;
    }

    /// @dev A passed audit and a decided dispute, so that no slot of a balance is zero any more.
    function setUp() public override {
        super.setUp();
        court.collect();
        token.mint(address(this), 1);
        audited(filed(AuditMode.Always), PASS, PASS);
        Filing memory filing = filed(AuditMode.Always);
        audited(filing, PASS, FLAG);
        voted(idOf(filing), 3, votesOf(jurors(), BAD));
        executed(filing);
        for (uint256 i; i < 20; ++i) {
            audited(filed(AuditMode.Always), PASS, PASS);
        }
        court.collect();
        audited(filed(AuditMode.Always), PASS, PASS);
    }

    function test_PassingAudit() public {
        Filing memory filing = filed();
        bytes32 taskId = idOf(filing);
        (, uint64 round) = court.challengeOf(filing);
        poke(round);
        vm.snapshotGasLastCall(group(), "poke");
        commitAs(nodeAt(1), filing, noise(1));
        uint256 sum = vm.snapshotGasLastCall(group(), "commit_audit_first");
        commitJoining(nodeAt(2), filing, near());
        sum += vm.snapshotGasLastCall(group(), "commit_audit_second");
        revealAs(nodeAt(1), filing, PASS, noise(1));
        sum += vm.snapshotGasLastCall(group(), "reveal_audit_first");
        revealAs(nodeAt(2), filing, PASS, near());
        sum += vm.snapshotGasLastCall(group(), "reveal_audit_last");
        vm.assertTrue(board.commitmentOf(taskId) != 0);
        vm.assertLe(sum, GOAL, "a passing audit must stay within the gas goal");
    }

    /// @dev An auditor of four tasks of unlike nodes, beside another auditor in each, reveals them in one call: where it comes
    /// first, and where it comes last.
    function test_RevealsTogether() public {
        for (uint256 i; i < 2; ++i) {
            Filing[] memory filings = crowd();
            // Once before it counts, so that everybody has been paid, and every node has passed.
            if (i == 0) revealOthers(filings);
            revealMine(filings);
            if (i == 1) vm.snapshotGasLastCall(group(), "reveal_four_first");
        }
        Filing[] memory later = crowd();
        revealOthers(later);
        revealMine(later);
        vm.snapshotGasLastCall(group(), "reveal_four_last");
    }

    function revealOthers(Filing[] memory filings) private {
        for (uint256 i; i < 4; ++i) {
            revealAs(nodeAt(2 + i), filings[i], PASS, near());
        }
    }

    function crowd() private returns (Filing[] memory filings) {
        filings = new Filing[](4);
        for (uint256 i; i < 4; ++i) {
            filings[i] = filedBy(nodeAt(6 + i));
            pokeFor(filings[i]);
            commitAs(nodeAt(1), filings[i], noise(1));
            commitJoining(nodeAt(2 + i), filings[i], near());
        }
    }

    function revealMine(Filing[] memory filings) private {
        Reveal[] memory mine = new Reveal[](4);
        for (uint256 i; i < 4; ++i) {
            mine[i] = Reveal(idOf(filings[i]), PASS, noise(1), saltOf(nodeAt(1)), EVIDENCE, PROFILE);
        }
        vm.prank(nodeAt(1));
        court.revealAudits(mine);
    }

    /// @dev The second seat reads the terms only; zeros are cheaper.
    function commitJoining(address auditor, Filing memory filing, bytes32 projection) private {
        (bytes32 value, uint64 round) = court.challengeOf(filing);
        Filing memory bare;
        bare.terms = filing.terms;
        waitForSeat(uint80(uint256(value)), idOf(filing), round, auditor, 2, 2);
        bytes32 commitment = sealOf(value, idOf(filing), auditor, projection);
        vm.prank(auditor);
        court.commitAudit(bare, commitment);
    }

    /// @dev What another honest auditor gets: a little off in every number.
    function near() private pure returns (bytes32 projection) {
        projection = bytes32(uint256(noise(1)) ^ (uint256(0x00010001000100010001) << 176));
    }

    function test_Dispute() public {
        Filing memory filing = filed();
        bytes32 taskId = idOf(filing);
        audited(filing, FLAG, FLAG);
        vm.snapshotGasLastCall(group(), "close_audit_disputes");
        summoned(taskId);
        for (uint256 i; i < jurors(); ++i) {
            commitVoteAs(nodeAt(3 + i), taskId, BAD);
            vm.snapshotGasLastCall(group(), string.concat("commit_vote_", vm.toString(i)));
        }
        for (uint256 i; i < jurors(); ++i) {
            revealVoteAs(nodeAt(3 + i), taskId, BAD);
            vm.snapshotGasLastCall(group(), string.concat("reveal_vote_", vm.toString(i)));
        }
        court.tally(taskId);
        vm.snapshotGasLastCall(group(), "tally");
        skip(APPEAL + 1);
        court.execute(filing);
        vm.snapshotGasLastCall(group(), "execute_guilty");
    }

    function test_Challenge() public {
        Filing memory filing = filed(AuditMode.None);
        vm.prank(carol);
        court.challenge(filing);
        vm.snapshotGasLastCall(group(), "challenge");
        voted(idOf(filing), 3, votesOf(jurors(), GOOD));
        vm.prank(carol);
        skip(APPEAL + 1);
        court.execute(filing);
        vm.snapshotGasLastCall(group(), "execute_innocent");
    }
}

contract AuditGas5Test is AuditGas {
    function jurors() internal pure override returns (uint8) {
        return 5;
    }

    function group() internal pure override returns (string memory) {
        return "audit_jurors_5";
    }
}

contract AuditGas21Test is AuditGas {
    function jurors() internal pure override returns (uint8) {
        return 21;
    }

    function group() internal pure override returns (string memory) {
        return "audit_jurors_21";
    }
}
