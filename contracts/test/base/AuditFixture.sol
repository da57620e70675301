// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BlockBeacon} from "../../src/BlockBeacon.sol";
import {DevToken} from "../../src/DevToken.sol";
import {Marketplace} from "../../src/Marketplace.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskBoard} from "../../src/TaskBoard.sol";
import {
    ArbiterRules,
    AuditPhase,
    AuditVerdict,
    DisputePhase,
    DisputeView,
    Filing,
    IArbiter,
    Reveal
} from "../../src/interfaces/IArbiter.sol";
import {RegistryRules} from "../../src/interfaces/INodeRegistry.sol";
import {AuditMode, BoardRules, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {commitmentOfRoots} from "../../src/libraries/TaskWord.sol";
import {Fixture} from "./Fixture.sol";

/// @dev A network with an arbiter: node 0 works, all others audit and judge. Steps of an audit as one-liners.
abstract contract AuditFixture is Fixture {
    uint32 internal constant PERIOD = 3;
    uint32 internal constant AUDIT_COMMIT = 90;
    uint32 internal constant AUDIT_REVEAL = 50;
    uint32 internal constant VOTE_COMMIT = 80;
    uint32 internal constant VOTE_REVEAL = 70;
    uint32 internal constant APPEAL = 40;
    uint96 internal constant AUDITOR_FEE = 0.1 ether;
    uint96 internal constant AUDITOR_PENALTY = 20 ether;
    uint96 internal constant JUROR_FEE = 0.05 ether;
    uint96 internal constant JUROR_PENALTY = 10 ether;
    uint96 internal constant BOND = 2 ether;
    uint16 internal constant TOLERANCE = 40;
    bytes32 internal constant EVIDENCE = keccak256("openings");
    bytes32 internal constant PROFILE = keccak256("fp32/cpu");
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;

    uint8 internal constant PASS = uint8(AuditVerdict.Pass);
    uint8 internal constant FLAG = uint8(AuditVerdict.Flag);
    uint8 internal constant WITHHELD = uint8(AuditVerdict.Withheld);
    uint8 internal constant GOOD = 1;
    uint8 internal constant BAD = 2;
    uint8 internal constant CANNOT_TELL = 3;

    address internal immutable carol = address(uint160(uint256(keccak256("carol"))));
    address internal immutable surplus = address(uint160(uint256(keccak256("surplus"))));

    BlockBeacon internal beacon;
    IArbiter internal court;
    uint64 internal model;

    function setUp() public virtual override {
        vm.warp(1_800_000_000);
        vm.roll(1000);
        vm.prevrandao(uint256(keccak256("prevrandao")));
        deployAudited(arbiterRules());
        model = publish();
        fund(carol, 1000 ether);
        token.mint(carol, 100 ether);
        vm.prank(carol);
        token.approve(address(court), type(uint256).max);
        for (uint256 i; i < nodeCount(); ++i) {
            // More than the least, so that a penalty does not pause anybody.
            join(nodeAt(i), i == 0 ? 8 * STAKE : 2 * STAKE);
        }
    }

    function nodeCount() internal pure virtual returns (uint256) {
        return 9;
    }

    function arbiterRules() internal view virtual returns (ArbiterRules memory rules_) {
        rules_.vettingRateBps = 10_000;
        rules_.steadyRateBps = 500;
        rules_.trustedRateBps = 200;
        rules_.vettingAudits = 100;
        rules_.trustedAudits = 1000;
        rules_.largeFee = 100 ether;
        rules_.auditorSeats = 2;
        rules_.auditStep = 2;
        rules_.lotDoublings = 255;
        rules_.auditCommitWindow = AUDIT_COMMIT;
        rules_.auditRevealWindow = AUDIT_REVEAL;
        rules_.projectionTolerance = TOLERANCE;
        rules_.auditorFee = AUDITOR_FEE;
        rules_.auditorPenalty = AUDITOR_PENALTY;
        rules_.jurors = 5;
        rules_.quorum = 3;
        rules_.appealJurors = 5;
        rules_.appealQuorum = 4;
        rules_.juryStep = 2;
        rules_.voteCommitWindow = VOTE_COMMIT;
        rules_.voteRevealWindow = VOTE_REVEAL;
        rules_.appealWindow = APPEAL;
        rules_.jurorFee = JUROR_FEE;
        rules_.jurorPenalty = JUROR_PENALTY;
        rules_.challengeBond = BOND;
        rules_.penaltyFactor = 100;
        rules_.penaltyBps = 500;
        rules_.burnBps = 5000;
        rules_.requesterBps = 3000;
        rules_.brakeSlashes = 3;
        rules_.grace = 10;
        rules_.reserve = 50 ether;
    }

    function auditedBoardRules() internal pure returns (BoardRules memory changed) {
        changed = rules();
        changed.holdWindow = 1000;
    }

    function deployAudited(ArbiterRules memory rules_) internal {
        token = new DevToken("Gesso dollar", "GSO", address(this));
        registry = new NodeRegistry(token, admin, RegistryRules(STAKE, STAKE, 1000, 0));
        marketplace = new Marketplace(2000);
        beacon = new BlockBeacon(PERIOD);
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        board = new TaskBoard(token, registry, marketplace, next, admin, auditedBoardRules());
        court = newArbiter(rules_);
        vm.prank(admin);
        registry.setBoard(address(board));
        vm.prank(admin);
        board.setArbiter(address(court));
        vm.prank(admin);
        registry.setArbiter(address(court));
    }

    /// @dev From its artifact: see `compilation_restrictions` in foundry.toml.
    function newArbiter(ArbiterRules memory rules_) internal returns (IArbiter) {
        return
            IArbiter(vm.deployCode("Arbiter.sol:Arbiter", abi.encode(token, board, registry, beacon, surplus, rules_)));
    }

    // ------------------------------------------------------------------ a task up to its commit

    function filed() internal returns (Filing memory) {
        return filed(AuditMode.Sampled);
    }

    function filed(AuditMode mode) internal returns (Filing memory filing) {
        filing = filed(mode, FEE);
    }

    function filed(AuditMode mode, uint96 fee) internal returns (Filing memory filing) {
        return filedBy(worker(), mode, fee);
    }

    function filedBy(address node) internal returns (Filing memory) {
        return filedBy(node, AuditMode.Sampled, FEE);
    }

    function filedBy(address node, AuditMode mode, uint96 fee) internal returns (Filing memory filing) {
        Terms memory terms = termsOf(carol, model);
        (terms.audit, terms.fee) = (uint8(mode), fee);
        vm.prank(carol);
        board.submit(terms);
        waitForTurn(terms, node);
        vm.prank(node);
        board.claim(terms);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        return Filing(terms, commitmentOfRoots(RESULT, TRACE));
    }

    function worker() internal pure returns (address) {
        return nodeAt(0);
    }

    function idOf(Filing memory filing) internal view returns (bytes32) {
        return board.taskIdOf(filing.terms);
    }

    // ------------------------------------------------------------------ audits

    function poke(uint64 round) internal {
        uint40 start = beacon.startOf(round);
        if (vm.getBlockTimestamp() < start) vm.warp(start);
        vm.roll(vm.getBlockTimestamp());
        beacon.resolve(round);
    }

    function pokeFor(Filing memory filing) internal returns (bytes32 value) {
        (, uint64 round) = court.challengeOf(filing);
        poke(round);
        (value,) = court.challengeOf(filing);
    }

    function noise(uint256 seed) internal pure returns (bytes32 projection) {
        return keccak256(abi.encode("projection", seed));
    }

    function saltOf(address who) internal pure returns (bytes32) {
        return keccak256(abi.encode("salt", who));
    }

    /// @param value The challenge that the projection is for.
    function sealOf(bytes32 value, bytes32 taskId, address auditor, bytes32 projection)
        internal
        pure
        returns (bytes32)
    {
        bytes32 hidden = keccak256(abi.encode(taskId, auditor, projection, saltOf(auditor)));
        return bytes32((uint256(value) << 176) | uint80(uint256(hidden)));
    }

    /// @dev Waits until `auditor` is drawn, and takes a seat for it.
    function commitAs(address auditor, Filing memory filing, bytes32 projection) internal {
        bytes32 taskId = idOf(filing);
        (bytes32 value, uint64 round) = court.challengeOf(filing);
        waitForSeat(uint80(uint256(value)), taskId, round, auditor, court.params().auditorSeats, 2);
        vm.prank(auditor);
        court.commitAudit(filing, sealOf(value, taskId, auditor, projection));
    }

    function revealAs(address auditor, Filing memory filing, uint8 verdict, bytes32 projection) internal {
        // Computed here: a call of the board's would be what an expected revert is expected of.
        bytes32 taskId = keccak256(abi.encode(block.chainid, address(board), filing.terms));
        vm.prank(auditor);
        court.revealAudits(said(taskId, verdict, projection, saltOf(auditor)));
    }

    function said(bytes32 taskId, uint8 verdict, bytes32 projection, bytes32 salt)
        internal
        pure
        returns (Reveal[] memory reveals)
    {
        reveals = new Reveal[](1);
        reveals[0] = Reveal(taskId, verdict, projection, salt, EVIDENCE, PROFILE);
    }

    /// @dev An audit by nodes 1 and 2 with these verdicts and the same projection.
    function audited(Filing memory filing, uint8 first, uint8 second) internal {
        audited(filing, first, second, noise(1), noise(1));
    }

    function audited(Filing memory filing, uint8 first, uint8 second, bytes32 projection, bytes32 other) internal {
        pokeFor(filing);
        commitAs(nodeAt(1), filing, projection);
        commitAs(nodeAt(2), filing, other);
        revealedBoth(filing, first, second, projection, other);
    }

    /// @dev Nodes 1 and 2 reveal; what they contest goes before jurors.
    function revealedBoth(Filing memory filing, uint8 first, uint8 second, bytes32 projection, bytes32 other) internal {
        revealAs(nodeAt(1), filing, first, projection);
        revealAs(nodeAt(2), filing, second, other);
        if (court.auditOf(idOf(filing)).phase == AuditPhase.Open) court.closeAudit(filing);
    }

    function waitForSeat(uint80 seed, bytes32 taskId, uint64 round, address who, uint256 seats, uint32 step) internal {
        (uint32 weight, uint64 total,) = board.seatOf(who);
        uint256 share = weight * seats < total ? weight * seats : total;
        uint256 score = Sortition.score(seed, taskId, who);
        uint256 start = beacon.startOf(round);
        while (score > Sortition.threshold(total, share, vm.getBlockTimestamp() - start, step)) skip(step);
    }

    // ------------------------------------------------------------------ disputes

    function summoned(bytes32 taskId) internal returns (uint80) {
        DisputeView memory dispute = court.disputeOf(taskId);
        poke(dispute.round);
        return uint80(uint256(keccak256(abi.encode(beacon.seedOf(dispute.round), taskId, uint256(dispute.level)))));
    }

    function voteSeal(bytes32 taskId, uint8 level, address juror, uint8 vote) internal pure returns (bytes32) {
        return keccak256(abi.encode(taskId, level, juror, vote, saltOf(juror)));
    }

    function commitVoteAs(address juror, bytes32 taskId, uint8 vote) internal {
        DisputeView memory dispute = court.disputeOf(taskId);
        uint80 seed =
            uint80(uint256(keccak256(abi.encode(beacon.seedOf(dispute.round), taskId, uint256(dispute.level)))));
        uint8 seats = dispute.level == 0 ? court.params().jurors : court.params().appealJurors;
        waitForSeat(seed, taskId, dispute.round, juror, seats, 2);
        vm.prank(juror);
        court.commitVote(taskId, voteSeal(taskId, dispute.level, juror, vote));
    }

    function revealVoteAs(address juror, bytes32 taskId, uint8 vote) internal {
        vm.prank(juror);
        court.revealVote(taskId, vote, saltOf(juror));
    }

    /// @dev A full jury, nodes `first` and following, with these votes; counted.
    function voted(bytes32 taskId, uint256 first, uint8[] memory votes) internal {
        summoned(taskId);
        for (uint256 i; i < votes.length; ++i) {
            commitVoteAs(nodeAt(first + i), taskId, votes[i]);
        }
        for (uint256 i; i < votes.length; ++i) {
            revealVoteAs(nodeAt(first + i), taskId, votes[i]);
        }
        court.tally(taskId);
    }

    function votesOf(uint256 count, uint8 vote) internal pure returns (uint8[] memory votes) {
        votes = new uint8[](count);
        for (uint256 i; i < count; ++i) {
            votes[i] = vote;
        }
    }

    function executed(Filing memory filing) internal {
        skip(APPEAL + 1);
        court.execute(filing);
    }

    // ------------------------------------------------------------------ asserts

    function assertPhase(Filing memory filing, AuditPhase wanted) internal view {
        vm.assertEq(uint8(court.auditOf(idOf(filing)).phase), uint8(wanted));
    }

    function assertPhase(Filing memory filing, DisputePhase wanted) internal view {
        vm.assertEq(uint8(court.disputeOf(idOf(filing)).phase), uint8(wanted));
    }

    /// @dev What the arbiter holds is what it owes.
    function assertPurse(uint256 credits) internal view {
        vm.assertEq(token.balanceOf(address(court)), court.pool() + court.bonds() + credits, "purse");
    }

    function stakeOf(address node) internal view returns (uint256) {
        return registry.stakeOf(node);
    }
}
