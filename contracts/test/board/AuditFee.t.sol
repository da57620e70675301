// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AuditMode, ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

/// @dev The fee for a sure audit: the arbiter's if it held the task, the requester's if it did not, never both.
contract AuditFeeTest is Fixture {
    address private node = nodeAt(0);

    function setUp() public override {
        super.setUp();
        fund(alice, 10 ether);
        join(node);
        setArbiters();
    }

    function test_SubmitTakesBothFees() public {
        submittedFor(AuditMode.Always);
        vm.assertEq(board.balanceOf(alice), 10 ether - FEE - AUDIT_FEE);
        submittedFor(AuditMode.Sampled);
        submittedFor(AuditMode.None);
        vm.assertEq(board.balanceOf(alice), 10 ether - 3 * uint256(FEE) - AUDIT_FEE);
    }

    function test_CancelReturnsIt() public {
        Terms memory terms = submittedFor(AuditMode.Always);
        skip(CANCEL_DELAY);
        vm.expectEmit(address(board));
        emit ITaskBoard.AuditFeeReturned(board.taskIdOf(terms), AUDIT_FEE);
        vm.prank(alice);
        board.cancel(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether);
    }

    function test_ExpiryOfAnOpenTaskReturnsIt() public {
        Terms memory terms = submittedFor(AuditMode.Always);
        skip(601);
        board.expire(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether);
    }

    function test_ExpiryOfAClaimedTaskReturnsIt() public {
        Terms memory terms = claimedFor(AuditMode.Always);
        skip(121);
        board.expire(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether);
    }

    function test_SettlementWithoutAnAuditReturnsIt() public {
        Terms memory terms = committedFor(AuditMode.Always);
        skip(CHALLENGE);
        vm.expectEmit(address(board));
        emit ITaskBoard.AuditFeeReturned(board.taskIdOf(terms), AUDIT_FEE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(alice), 10 ether - FEE);
        vm.assertEq(board.balanceOf(arbiter), 0);
    }

    function test_AHoldEarnsItForTheArbiter() public {
        Terms memory terms = committedFor(AuditMode.Always);
        hold(terms);
        vm.assertEq(board.balanceOf(arbiter), AUDIT_FEE);
        vm.prank(arbiter);
        board.rule(terms, true);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(arbiter), AUDIT_FEE);
        vm.assertEq(board.balanceOf(alice), 10 ether - FEE - AUDIT_FEE, "not paid and returned");
    }

    function test_ARejectedTaskReturnsTheFeeOnly() public {
        Terms memory terms = committedFor(AuditMode.Always);
        hold(terms);
        vm.prank(arbiter);
        board.rule(terms, false);
        vm.assertEq(board.balanceOf(alice), 10 ether - AUDIT_FEE);
        vm.assertEq(board.balanceOf(arbiter), AUDIT_FEE);
    }

    function test_AnExpiredHoldReturnsTheFeeOnly() public {
        Terms memory terms = committedFor(AuditMode.Always);
        hold(terms);
        skip(HOLD + 1);
        board.expire(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether - AUDIT_FEE);
        assertState(terms, TaskState.Expired);
    }

    function test_OtherModesEarnTheArbiterNothing() public {
        hold(committedFor(AuditMode.Sampled));
        hold(committedFor(AuditMode.None));
        vm.assertEq(board.balanceOf(arbiter), 0);
    }

    function test_RevertWhen_ItIsNotCovered() public {
        Terms memory terms = termsOf(alice, 0);
        (terms.fee, terms.audit) = (10 ether, uint8(AuditMode.Always));
        vm.expectRevert(
            abi.encodeWithSelector(ITaskBoard.InsufficientBalance.selector, alice, 10 ether, 10 ether + AUDIT_FEE)
        );
        vm.prank(alice);
        board.submit(terms);
    }

    function testFuzz_RevertWhen_TheModeIsUnknown(uint8 mode) public {
        Terms memory terms = termsOf(alice, 0);
        terms.audit = uint8(clamp(mode, 3, type(uint8).max));
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.AuditModeUnknown.selector, terms.audit));
        vm.prank(alice);
        board.submit(terms);
    }

    /// @dev Whatever the mode and the way to the end, money comes from the requester and goes to one place.
    function testFuzz_MoneyIsConserved(uint8 mode, uint8 way, bool upheld) public {
        Terms memory terms = committedFor(AuditMode(clamp(mode, 0, 2)));
        if (way % 3 == 0) {
            skip(CHALLENGE);
            board.settle(one(terms));
        } else {
            hold(terms);
            if (way % 3 == 1) {
                vm.prank(arbiter);
                board.rule(terms, upheld);
                if (upheld) board.settle(one(terms));
            } else {
                skip(HOLD + 1);
                board.expire(terms);
            }
        }
        uint256 sum = board.balanceOf(alice) + board.balanceOf(node) + board.balanceOf(arbiter);
        vm.assertEq(sum + board.balanceOf(treasury), 10 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    function submittedFor(AuditMode mode) private returns (Terms memory terms) {
        terms = termsOf(alice, 0);
        terms.audit = uint8(mode);
        vm.prank(alice);
        board.submit(terms);
    }

    function claimedFor(AuditMode mode) private returns (Terms memory terms) {
        terms = submittedFor(mode);
        waitForTurn(terms, node);
        vm.prank(node);
        board.claim(terms);
    }

    function committedFor(AuditMode mode) private returns (Terms memory terms) {
        terms = claimedFor(mode);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
    }

    function hold(Terms memory terms) private {
        vm.prank(arbiter);
        board.hold(terms);
    }
}
