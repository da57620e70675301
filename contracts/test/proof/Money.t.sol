// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {TaskBoard} from "../../src/TaskBoard.sol";
import {BoardRules, ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {IMarketplace, Royalty} from "../../src/interfaces/IMarketplace.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {PART, TaskWord, packTask} from "../../src/libraries/TaskWord.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

interface Svm {
    function assume(bool condition) external pure;
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
}

/// @dev Proved for all inputs by scripts/halmos. A token that always delivers and a marketplace that asks for nothing stand
/// in for the real ones; the board is the real one.
contract MoneyProof {
    Svm private constant vm = Svm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 private constant START = 1_800_000_000;
    address private constant TREASURY = address(0x7EA5);
    address private constant ALICE = address(0xA11CE);
    address private constant NODE = address(0x40DE);
    uint32 private constant CANCEL_DELAY = 5;

    TaskBoard private board;

    function setUp() public {
        vm.warp(START);
        board = new TaskBoard(
            IERC20(address(new SureToken())),
            // The proof is the registry: it gives weights.
            INodeRegistry(address(this)),
            IMarketplace(address(new NoRoyalty())),
            TREASURY,
            address(this),
            BoardRules(60, 10, 300, 4, 10, 3600, 10, 3600, CANCEL_DELAY, 0, 1000, 500)
        );
        board.setWeight(NODE, 1, 0);
        board.setArbiter(address(this));
    }

    /// @notice State, time and holder of a task never run into each other.
    function check_TaskWordKeepsItsFields(uint8 state, uint40 since, uint160 holder) public pure {
        vm.assume(state <= uint8(TaskState.Held));
        TaskWord word = packTask(TaskState(state), since, holder);
        assert(word.state() == TaskState(state));
        assert(word.since() == since);
        assert(word.node() == address(holder));
        assert(word.seed() == uint128(holder));
    }

    /// @notice That a part was committed runs into nothing, and lasts through every later state; neither does a wish to stop.
    function check_AFlagOfTheTaskWordTouchesNoField(uint8 state, uint8 later, uint40 since, uint208 payload)
        public
        pure
    {
        vm.assume(state <= uint8(TaskState.Held) && later <= uint8(TaskState.Held));
        TaskWord whole = packTask(TaskState(state), since, payload);
        TaskWord part = packTask(TaskState(state), since, PART | payload);
        assert(!whole.isPart() && part.isPart());
        assert(!packTask(TaskState(later), since, whole.kept()).isPart());
        assert(part.state() == whole.state() && part.since() == since);
        TaskWord next = packTask(TaskState(later), since, part.withHeld().kept());
        assert(next.isPart() && !next.wasHeld() && next.state() == TaskState(later));
        assert(next.index() == whole.index() && next.commitment() == whole.commitment());
        TaskWord wished = whole.withStop();
        assert(wished.stopRequested() && wished.state() == whole.state() && wished.since() == since);
        assert(wished.node() == whole.node() && wished.index() == whole.index());
    }

    /// @notice Waiting never takes a right to claim away.
    function check_ThresholdNeverFalls(uint64 weight, uint8 doublings) public pure {
        vm.assume(weight != 0 && weight <= 1000);
        uint256 sooner = Sortition.threshold(1000, weight, uint256(doublings) * 10, 10);
        assert(Sortition.threshold(1000, weight, uint256(doublings) * 10 + 10, 10) >= sooner);
    }

    /// @notice Nobody takes out more than their balance, and a withdrawal changes nothing else.
    function check_WithdrawIsBounded(uint96 deposited, uint256 asked) public {
        vm.assume(deposited != 0);
        deposit(deposited);
        vm.prank(ALICE);
        (bool success,) = address(board).call(abi.encodeCall(ITaskBoard.withdraw, (asked)));
        assert(success == (asked != 0 && asked <= deposited));
        assert(board.balanceOf(ALICE) == (success ? deposited - asked : deposited));
    }

    /// @notice A cancelled task gives back the fee to the base unit and cannot do so twice.
    function check_CancelRefundsOnce(uint96 deposited, uint96 fee) public {
        Terms memory terms = submitted(deposited, fee);
        assert(board.balanceOf(ALICE) == deposited - fee);
        vm.prank(ALICE);
        (bool early,) = address(board).call(abi.encodeCall(ITaskBoard.cancel, (terms)));
        assert(!early);
        vm.warp(START + CANCEL_DELAY);
        vm.prank(ALICE);
        board.cancel(terms);
        assert(board.balanceOf(ALICE) == deposited);
        vm.prank(ALICE);
        (bool again,) = address(board).call(abi.encodeCall(ITaskBoard.cancel, (terms)));
        vm.warp(START + 10_000);
        (bool expired,) = address(board).call(abi.encodeCall(ITaskBoard.expire, (terms)));
        assert(!again && !expired);
        assert(board.balanceOf(ALICE) == deposited);
    }

    /// @notice A settled task pays the fee to the base unit, and after it neither pays nor refunds.
    function check_SettlePaysOnceAndNeverRefunds(uint96 deposited, uint96 fee) public {
        Terms memory terms = submitted(deposited, fee);
        vm.prank(NODE);
        board.claim(terms);
        vm.prank(NODE);
        board.commit(terms, bytes32(uint256(1)), 0);
        vm.warp(START + 60);
        Terms[] memory batch = new Terms[](2);
        (batch[0], batch[1]) = (terms, terms);
        board.settle(batch);
        uint256 earned = board.balanceOf(NODE) + board.balanceOf(TREASURY);
        assert(earned == fee);
        assert(board.balanceOf(ALICE) == deposited - fee);
        vm.warp(START + 10_000);
        (bool expired,) = address(board).call(abi.encodeCall(ITaskBoard.expire, (terms)));
        vm.prank(ALICE);
        (bool cancelled,) = address(board).call(abi.encodeCall(ITaskBoard.cancel, (terms)));
        assert(!expired && !cancelled);
    }

    /// @notice A part of any share pays it and returns the rest, to the base unit and once, or returns all when the arbiter
    /// rejects it; after that nothing moves again.
    function check_APartPaysAndRefundsOnce(uint96 deposited, uint96 fee, uint16 doneBps, bool held, bool upheld)
        public
    {
        Terms memory terms = partDone(deposited, fee, doneBps);
        if (held) {
            board.hold(terms);
            board.rule(terms, upheld);
        }
        vm.warp(START + 60);
        Terms[] memory batch = new Terms[](2);
        (batch[0], batch[1]) = (terms, terms);
        assert(board.settle(batch) == (held && !upheld ? 0 : 1));
        uint256 earned = board.balanceOf(NODE) + board.balanceOf(TREASURY);
        assert(board.balanceOf(ALICE) + earned == deposited);
        assert(earned == (held && !upheld ? 0 : uint256(fee) * doneBps / 10_000));
        assert(board.activeClaimsOf(NODE) == 0);
        vm.warp(START + 10_000);
        (bool expired,) = address(board).call(abi.encodeCall(ITaskBoard.expire, (terms)));
        assert(!expired);
    }

    /// @notice Work in doubt pays neither side, and what a part leaves goes back, to the base unit and once.
    function check_DoubtPaysNobody(uint96 deposited, uint96 fee, uint16 doneBps) public {
        Terms memory terms = partDone(deposited, fee, doneBps);
        board.hold(terms);
        (, uint96 amount) = board.forfeit(terms);
        (, uint96 again) = board.forfeit(terms);
        assert(amount == uint256(fee) * doneBps / 10_000 && again == 0);
        assert(board.balanceOf(address(this)) == amount);
        assert(board.balanceOf(ALICE) + amount == deposited);
        assert(board.balanceOf(NODE) == 0 && board.activeClaimsOf(NODE) == 0);
    }

    function deposit(uint96 amount) private {
        vm.prank(ALICE);
        board.deposit(amount);
    }

    function partDone(uint96 deposited, uint96 fee, uint16 doneBps) private returns (Terms memory terms) {
        vm.assume(fee >= 1000 && fee <= deposited && doneBps < 10_000);
        deposit(deposited);
        terms = Terms(ALICE, fee, keccak256("spec"), 1, 2, 600, 120, 7, 0);
        vm.prank(ALICE);
        board.submit(terms);
        vm.prank(NODE);
        board.claim(terms);
        vm.prank(NODE);
        board.commitPart(terms, bytes32(uint256(1)), 0, doneBps);
    }

    function submitted(uint96 deposited, uint96 fee) private returns (Terms memory terms) {
        vm.assume(fee >= 1000 && fee <= deposited);
        deposit(deposited);
        terms = Terms(ALICE, fee, keccak256("spec"), 1, 1, 600, 120, 7, 0);
        vm.prank(ALICE);
        board.submit(terms);
    }

    function recordExpiry(address) external {}
}

/// @dev Delivers what it is asked for; only the board's own books are in question.
contract SureToken {
    uint256 private held;

    function balanceOf(address) external view returns (uint256) {
        return held;
    }

    function transferFrom(address, address, uint256 amount) external returns (bool) {
        held += amount;
        return true;
    }

    /// @dev Pays whatever it is told to, so that the board's own check is all that stands between a thief and money.
    function transfer(address, uint256) external pure returns (bool) {
        return true;
    }
}

/// @dev Asks for nothing: solvers give up on division, so how a fee is split is left to fuzzing and to the vectors,
/// and the proofs are about who is paid how often.
contract NoRoyalty {
    function maxRoyaltyBps() external pure returns (uint16) {
        return 5000;
    }

    function royaltiesOf(uint64) external pure returns (Royalty[] memory) {
        return new Royalty[](0);
    }
}
