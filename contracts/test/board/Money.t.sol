// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {TaskBoard} from "../../src/TaskBoard.sol";
import {BoardRules, ITaskBoard} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";
import {FeeToken} from "../tokens/FeeToken.sol";
import {HookToken, IReceiver} from "../tokens/HookToken.sol";

contract MoneyTest is Fixture {
    uint256 private constant KEY = 0xC0FFEE;
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    function test_Deposit() public {
        token.mint(alice, 10 ether);
        vm.prank(alice);
        token.approve(address(board), 10 ether);
        vm.expectEmit(address(board));
        emit ITaskBoard.Deposited(alice, 4 ether);
        vm.prank(alice);
        board.deposit(4 ether);
        vm.assertEq(board.balanceOf(alice), 4 ether);
        vm.assertEq(token.balanceOf(address(board)), 4 ether);
        vm.assertEq(token.balanceOf(alice), 6 ether);
    }

    function test_RevertWhen_DepositIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.AmountOutOfRange.selector, 0));
        board.deposit(0);
    }

    function test_RevertWhen_DepositExceeds96Bits() public {
        uint256 amount = 1 << 96;
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.AmountOutOfRange.selector, amount));
        board.deposit(amount);
    }

    function test_RevertWhen_TokenTakesAFee() public {
        FeeToken fee = new FeeToken();
        TaskBoard other = new TaskBoard(fee, registry, marketplace, treasury, admin, rules());
        fee.mint(alice, 100);
        vm.prank(alice);
        fee.approve(address(other), 100);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.TokenAmountMismatch.selector, 100, 99));
        vm.prank(alice);
        other.deposit(100);
    }

    function test_DepositWithPermit() public {
        address owner = vm.addr(KEY);
        token.mint(owner, 5 ether);
        (uint8 v, bytes32 r, bytes32 s) = permitFor(owner, 5 ether);
        vm.prank(owner);
        board.depositWithPermit(5 ether, type(uint256).max, v, r, s);
        vm.assertEq(board.balanceOf(owner), 5 ether);
    }

    /// @dev Somebody may take a permit from the mempool and use it first; the deposit must not care.
    function test_DepositWithPermitThatWasUsedBefore() public {
        address owner = vm.addr(KEY);
        token.mint(owner, 5 ether);
        (uint8 v, bytes32 r, bytes32 s) = permitFor(owner, 5 ether);
        token.permit(owner, address(board), 5 ether, type(uint256).max, v, r, s);
        vm.prank(owner);
        board.depositWithPermit(5 ether, type(uint256).max, v, r, s);
        vm.assertEq(board.balanceOf(owner), 5 ether);
    }

    function test_RevertWhen_PermitIsForged() public {
        address owner = vm.addr(KEY);
        token.mint(owner, 5 ether);
        (uint8 v, bytes32 r, bytes32 s) = permitFor(owner, 4 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(board), 0, 5 ether)
        );
        vm.prank(owner);
        board.depositWithPermit(5 ether, type(uint256).max, v, r, s);
    }

    function test_Withdraw() public {
        fund(alice, 10 ether);
        vm.expectEmit(address(board));
        emit ITaskBoard.Withdrawn(alice, 3 ether);
        vm.prank(alice);
        board.withdraw(3 ether);
        vm.assertEq(board.balanceOf(alice), 7 ether);
        vm.assertEq(token.balanceOf(alice), 3 ether);
    }

    function test_RevertWhen_WithdrawIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.AmountOutOfRange.selector, 0));
        board.withdraw(0);
    }

    function testFuzz_RevertWhen_WithdrawExceedsBalance(uint96 deposited, uint256 asked) public {
        vm.assume(deposited != 0);
        asked = clamp(asked, uint256(deposited) + 1, type(uint256).max);
        fund(alice, deposited);
        vm.expectRevert(
            abi.encodeWithSelector(ITaskBoard.InsufficientBalance.selector, alice, uint256(deposited), asked)
        );
        vm.prank(alice);
        board.withdraw(asked);
    }

    /// @dev A node's claims and weight share the word of its balance; no amount may leak between them.
    function testFuzz_BalanceNeverTouchesClaims(uint96 amount, uint96 out) public {
        vm.assume(amount != 0);
        out = uint96(clamp(out, 1, amount));
        address node = nodeAt(0);
        join(node, 7 * STAKE);
        fund(alice, FEE);
        claimed(alice, 0, node);
        fund(node, amount);
        vm.prank(node);
        board.withdraw(out);
        vm.assertEq(board.balanceOf(node), amount - out);
        vm.assertEq(board.activeClaimsOf(node), 1);
        vm.assertEq(board.weightOf(node), 7);
    }

    function test_RevertWhen_TokenReentersWithdraw() public {
        HookToken hooked = new HookToken();
        TaskBoard other = new TaskBoard(hooked, registry, marketplace, treasury, admin, rules());
        Thief thief = new Thief(other);
        hooked.mint(address(thief), 100);
        thief.deposit(hooked, 100);
        hooked.hook(thief);
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        thief.steal();
    }

    function test_RevertWhen_RulesAreOutOfRange() public {
        BoardRules memory bad = rules();
        bad.protocolFeeBps = 2001;
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.RuleOutOfRange.selector, 2001, 0, 2000));
        new TaskBoard(token, registry, marketplace, treasury, admin, bad);
        bad = rules();
        bad.sortitionStep = 0;
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.RuleOutOfRange.selector, 0, 1, 1 days));
        new TaskBoard(token, registry, marketplace, treasury, admin, bad);
        bad = rules();
        bad.minClaimWindow = bad.maxClaimWindow + 1;
        vm.expectRevert(
            abi.encodeWithSelector(ITaskBoard.RuleOutOfRange.selector, bad.minClaimWindow, 1, bad.maxClaimWindow)
        );
        new TaskBoard(token, registry, marketplace, treasury, admin, bad);
        bad = rules();
        bad.cancelDelay = 61;
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.RuleOutOfRange.selector, 61, 0, 1 minutes));
        new TaskBoard(token, registry, marketplace, treasury, admin, bad);
        vm.expectRevert(ITaskBoard.ZeroAddress.selector);
        new TaskBoard(token, registry, marketplace, address(0), admin, rules());
    }

    function test_Params() public view {
        (
            uint32 challenge,
            uint32 step,
            uint32 hold,
            uint32 claims,,,,
            uint32 maxCommit,
            uint16 protocol,
            uint16 royalty,
            uint96 least,
            uint96 auditFee
        ) = board.params();
        vm.assertEq(challenge, CHALLENGE);
        vm.assertEq(step, STEP);
        vm.assertEq(hold, HOLD);
        vm.assertEq(claims, 4);
        vm.assertEq(maxCommit, 1 hours);
        vm.assertEq(board.cancelDelay(), CANCEL_DELAY);
        vm.assertEq(protocol, PROTOCOL_BPS);
        vm.assertEq(royalty, 2000);
        vm.assertEq(least, 1000);
        vm.assertEq(auditFee, AUDIT_FEE);
    }

    function permitFor(address owner, uint256 amount) private view returns (uint8, bytes32, bytes32) {
        bytes32 structHash =
            keccak256(abi.encode(PERMIT, owner, address(board), amount, token.nonces(owner), type(uint256).max));
        return vm.sign(KEY, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash)));
    }
}

/// @dev Asks for its money again while it is being paid.
contract Thief is IReceiver {
    TaskBoard private immutable board;

    constructor(TaskBoard board_) {
        board = board_;
    }

    function deposit(HookToken token, uint256 amount) external {
        token.approve(address(board), amount);
        board.deposit(amount);
    }

    function steal() external {
        board.withdraw(10);
    }

    function onToken() external {
        board.withdraw(10);
    }
}
