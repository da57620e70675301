// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevToken} from "../../src/DevToken.sol";
import {Marketplace} from "../../src/Marketplace.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskBoard} from "../../src/TaskBoard.sol";
import {RegistryRules} from "../../src/interfaces/INodeRegistry.sol";
import {BoardRules, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {CHEATCODES, Vm} from "./Vm.sol";

/// @dev The whole system with small windows, and the steps of a task as one-liners.
abstract contract Fixture {
    Vm internal constant vm = Vm(CHEATCODES);

    uint96 internal constant STAKE = 1000 ether;
    uint96 internal constant FEE = 1 ether;
    uint96 internal constant AUDIT_FEE = 0.2 ether;
    uint32 internal constant CHALLENGE = 60;
    uint32 internal constant STEP = 10;
    uint32 internal constant HOLD = 300;
    uint32 internal constant UNBONDING = 600;
    uint32 internal constant CANCEL_DELAY = 5;
    uint16 internal constant PROTOCOL_BPS = 250;
    uint16 internal constant ROYALTY_BPS = 1000;
    bytes32 internal constant RESULT = keccak256("result");
    bytes32 internal constant TRACE = keccak256("trace");

    address internal constant admin = address(0xAD);
    address internal constant treasury = address(0x7EA5);
    address internal constant arbiter = address(0xA2B1);
    address internal constant alice = address(0xA11CE);
    address internal constant bob = address(0xB0B);
    address internal constant publisher = address(0x9B);

    DevToken internal token;
    NodeRegistry internal registry;
    Marketplace internal marketplace;
    TaskBoard internal board;
    uint64 internal nonce;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(1000);
        vm.prevrandao(uint256(keccak256("beacon")));
        deploy(0);
    }

    function deploy(uint32 activationDelay) internal {
        token = new DevToken("Gesso dollar", "GSO", address(this));
        registry = new NodeRegistry(token, admin, RegistryRules(STAKE, STAKE, UNBONDING, activationDelay));
        marketplace = new Marketplace(2000);
        board = new TaskBoard(token, registry, marketplace, treasury, admin, rules());
        vm.prank(admin);
        registry.setBoard(address(board));
    }

    function rules() internal pure returns (BoardRules memory) {
        return BoardRules({
            challengeWindow: CHALLENGE,
            sortitionStep: STEP,
            holdWindow: HOLD,
            claimsPerWeight: 4,
            minClaimWindow: 10,
            maxClaimWindow: 1 hours,
            minCommitWindow: 10,
            maxCommitWindow: 1 hours,
            cancelDelay: CANCEL_DELAY,
            protocolFeeBps: PROTOCOL_BPS,
            minFee: 1000,
            auditFee: AUDIT_FEE
        });
    }

    // ------------------------------------------------------------------ people

    function nodeAt(uint256 i) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("node", i)))));
    }

    function fund(address who, uint256 amount) internal {
        token.mint(who, amount);
        vm.prank(who);
        token.approve(address(board), type(uint256).max);
        vm.prank(who);
        board.deposit(amount);
    }

    function join(address node) internal {
        join(node, STAKE);
    }

    function join(address node, uint96 stake) internal {
        token.mint(node, stake);
        vm.prank(node);
        token.approve(address(registry), type(uint256).max);
        vm.prank(node);
        registry.register(abi.encodePacked(node), bytes32(uint256(1)), stake);
    }

    function setArbiters() internal {
        vm.prank(admin);
        board.setArbiter(arbiter);
        vm.prank(admin);
        registry.setArbiter(arbiter);
    }

    function publish() internal returns (uint64) {
        vm.prank(publisher);
        return marketplace.publish("gesso-tiny", keccak256("manifest"), 0, 0, ROYALTY_BPS, bytes32(0));
    }

    // ------------------------------------------------------------------ steps of a task

    function termsOf(address requester, uint64 model) internal returns (Terms memory) {
        return Terms(requester, FEE, keccak256("spec"), model, 1, 600, 120, ++nonce, 0);
    }

    function submitted(address requester, uint64 model) internal returns (Terms memory terms) {
        terms = termsOf(requester, model);
        vm.prank(requester);
        board.submit(terms);
    }

    function claimed(address requester, uint64 model, address node) internal returns (Terms memory terms) {
        terms = submitted(requester, model);
        waitForTurn(terms, node);
        vm.prank(node);
        board.claim(terms);
    }

    function committed(address requester, uint64 model, address node) internal returns (Terms memory terms) {
        terms = claimed(requester, model, node);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
    }

    function trainingOf(address requester, uint64 model) internal returns (Terms memory terms) {
        terms = termsOf(requester, model);
        terms.kind = 2;
    }

    function claimedTraining(address requester, uint64 model, address node) internal returns (Terms memory terms) {
        terms = trainingOf(requester, model);
        claimOf(terms, node);
    }

    function partCommitted(address requester, uint64 model, address node, uint16 doneBps)
        internal
        returns (Terms memory terms)
    {
        terms = trainingOf(requester, model);
        commitPartOf(terms, node, doneBps);
    }

    function commitPartOf(Terms memory terms, address node, uint16 doneBps) internal {
        claimOf(terms, node);
        vm.prank(node);
        board.commitPart(terms, RESULT, TRACE, doneBps);
    }

    function claimOf(Terms memory terms, address node) internal {
        vm.prank(terms.requester);
        board.submit(terms);
        waitForTurn(terms, node);
        vm.prank(node);
        board.claim(terms);
    }

    function settled(address requester, uint64 model, address node) internal returns (Terms memory terms) {
        terms = committed(requester, model, node);
        skip(CHALLENGE);
        board.settle(one(terms));
    }

    /// @dev Lets time pass until `node` is eligible, a step at a time.
    function waitForTurn(Terms memory terms, address node) internal {
        bytes32 taskId = board.taskIdOf(terms);
        (,, uint40 since, uint128 seed) = board.taskOf(taskId);
        uint256 score = Sortition.score(seed, taskId, node);
        (uint32 weight, uint64 total) = (board.weightOf(node), board.totalWeight());
        while (score > Sortition.threshold(total, weight, vm.getBlockTimestamp() - since, STEP)) skip(STEP);
    }

    function skip(uint256 seconds_) internal {
        vm.warp(vm.getBlockTimestamp() + seconds_);
    }

    function one(Terms memory terms) internal pure returns (Terms[] memory batch) {
        batch = new Terms[](1);
        batch[0] = terms;
    }

    // ------------------------------------------------------------------ asserts

    function assertState(Terms memory terms, TaskState wanted) internal view {
        (uint8 state,,,) = board.taskOf(board.taskIdOf(terms));
        vm.assertEq(state, uint8(wanted));
    }

    /// @dev Uniform enough for tests: every value of a small range is reachable from a random word.
    function clamp(uint256 value, uint256 least, uint256 greatest) internal pure returns (uint256) {
        if (value >= least && value <= greatest) return value;
        uint256 size = greatest - least + 1;
        return size == 0 ? value : least + value % size;
    }
}
