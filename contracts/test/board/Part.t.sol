// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AuditMode, ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

/// @dev A training that ends early: the node is paid for what it did, the requester gets the rest, to the base unit.
contract PartTest is Fixture {
    address private node = nodeAt(0);
    uint64 private model;

    function setUp() public override {
        super.setUp();
        fund(alice, 10 ether);
        join(node);
        setArbiters();
        model = publish();
    }

    // ------------------------------------------------------------------ asking to stop

    function test_RequestStop() public {
        Terms memory terms = claimedTraining(alice, model, node);
        bytes32 id = board.taskIdOf(terms);
        assertDone(terms, 0, false);
        vm.expectEmit(address(board));
        emit ITaskBoard.StopRequested(id, node);
        vm.prank(alice);
        board.requestStop(terms);
        assertDone(terms, 0, true);
        assertState(terms, TaskState.Claimed);
        (, address who, uint40 since,) = board.taskOf(id);
        vm.assertEq(who, node);
        vm.assertEq(since, vm.getBlockTimestamp());
    }

    function test_AskingTwiceIsHarmless() public {
        Terms memory terms = stopped();
        vm.prank(alice);
        board.requestStop(terms);
        assertDone(terms, 0, true);
    }

    /// @dev It binds nobody: what is finished is paid.
    function test_ANodeThatFinishesAllTheSameIsPaidWhole() public {
        Terms memory terms = stopped();
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        assertDone(terms, 10_000, false);
        skip(CHALLENGE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(node), 0.875 ether);
        vm.assertEq(board.balanceOf(alice), 9 ether);
    }

    function test_AStoppedTaskStillExpires() public {
        Terms memory terms = stopped();
        skip(121);
        vm.expectEmit(address(board));
        emit ITaskBoard.Expired(board.taskIdOf(terms), node, FEE);
        board.expire(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
        assertDone(terms, 0, false);
    }

    function test_RevertWhen_SomebodyElseAsks() public {
        Terms memory terms = claimedTraining(alice, model, node);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotRequester.selector, node, alice));
        vm.prank(node);
        board.requestStop(terms);
    }

    function test_RevertWhen_AskedOutsideOfTheClaim() public {
        Terms memory terms = trainingOf(alice, model);
        refuseStop(terms, unexpected(terms, TaskState.None));
        vm.prank(alice);
        board.submit(terms);
        refuseStop(terms, unexpected(terms, TaskState.Submitted));
        terms = claimedTraining(alice, model, node);
        uint40 closes = uint40(vm.getBlockTimestamp() + 120);
        skip(121);
        bytes32 id = board.taskIdOf(terms);
        refuseStop(terms, abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, id, closes));
        terms = partCommitted(alice, model, node, 5000);
        refuseStop(terms, unexpected(terms, TaskState.Committed));
    }

    // ------------------------------------------------------------------ committing a part

    function test_CommitPart() public {
        Terms memory terms = stopped();
        bytes32 id = board.taskIdOf(terms);
        vm.expectEmit(address(board));
        emit ITaskBoard.PartCommitted(id, node, 2500, true);
        vm.expectEmit(address(board));
        emit ITaskBoard.Committed(id, node, RESULT, TRACE, uint40(vm.getBlockTimestamp() + CHALLENGE));
        vm.prank(node);
        board.commitPart(terms, RESULT, TRACE, 2500);
        assertState(terms, TaskState.Committed);
        assertDone(terms, 2500, true);
        vm.assertEq(
            board.commitmentOf(id), uint184(uint256(keccak256(abi.encode(RESULT, TRACE)))), "as of a whole commit"
        );
    }

    function test_SettlePaysThePartAndReturnsTheRest() public {
        Terms memory terms = partCommitted(alice, model, node, 2500);
        bytes32 id = board.taskIdOf(terms);
        skip(CHALLENGE);
        vm.expectEmit(address(board));
        emit ITaskBoard.RestReturned(id, 0.75 ether);
        vm.expectEmit(address(board));
        emit ITaskBoard.Settled(id, node, 0.218_75 ether, 0.025 ether, publisher, 0.006_25 ether);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(node), 0.218_75 ether);
        vm.assertEq(board.balanceOf(publisher), 0.025 ether);
        vm.assertEq(board.balanceOf(treasury), 0.006_25 ether);
        vm.assertEq(board.balanceOf(alice), 9.75 ether);
        vm.assertEq(board.activeClaimsOf(node), 0);
        assertDone(terms, 2500, false);
        assertState(terms, TaskState.Settled);
    }

    /// @dev A loss that is no number before the first checkpoint: nothing is owed, and nobody has to wait for an expiry.
    function test_NothingDoneIsAPartToo() public {
        Terms memory terms = partCommitted(alice, model, node, 0);
        assertDone(terms, 0, false);
        skip(CHALLENGE);
        vm.assertEq(board.settle(one(terms)), 1);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(board.balanceOf(node), 0);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    /// @dev The share of one entry must not leak into the next.
    function test_BatchOfPartsAndWholes() public {
        Terms[] memory batch = new Terms[](4);
        batch[0] = committed(alice, model, node);
        batch[1] = partCommitted(alice, model, node, 5000);
        batch[2] = partCommitted(alice, 0, node, 1);
        batch[3] = committed(alice, model, node);
        skip(CHALLENGE);
        vm.assertEq(board.settle(batch), 4);
        vm.assertEq(board.balanceOf(publisher), 0.25 ether);
        vm.assertEq(board.balanceOf(node), 2.5 * 0.875 ether + 0.000_097_5 ether);
        vm.assertEq(board.balanceOf(alice), 6 ether + 0.5 ether + 0.9999 ether);
        vm.assertEq(board.settle(batch), 0, "once only");
        vm.assertEq(board.balanceOf(alice), 6 ether + 0.5 ether + 0.9999 ether);
    }

    function testFuzz_PartsAreExact(uint96 fee, uint16 doneBps, bool asked) public {
        fee = uint96(clamp(fee, 1000, type(uint96).max - 100 ether));
        doneBps = uint16(clamp(doneBps, 0, 9999));
        fund(alice, fee);
        Terms memory terms = trainingOf(alice, model);
        terms.fee = fee;
        vm.prank(alice);
        board.submit(terms);
        vm.prank(node);
        board.claim(terms);
        if (asked) {
            vm.prank(alice);
            board.requestStop(terms);
        }
        vm.prank(node);
        board.commitPart(terms, RESULT, TRACE, doneBps);
        assertDone(terms, doneBps, asked);
        skip(CHALLENGE);
        board.settle(one(terms));
        uint256 due = uint256(fee) * doneBps / 10_000;
        vm.assertEq(board.balanceOf(publisher), due * ROYALTY_BPS / 10_000);
        vm.assertEq(board.balanceOf(treasury), due * PROTOCOL_BPS / 10_000);
        vm.assertEq(board.balanceOf(node) + board.balanceOf(publisher) + board.balanceOf(treasury), due);
        vm.assertEq(board.balanceOf(alice), 10 ether + fee - due);
    }

    // ------------------------------------------------------------------ with an arbiter

    function test_AnUpheldPartIsPaidAsAPart() public {
        Terms memory terms = partCommitted(alice, model, node, 2500);
        hold(terms);
        assertDone(terms, 2500, false);
        vm.prank(arbiter);
        board.rule(terms, true);
        assertState(terms, TaskState.Committed);
        assertDone(terms, 2500, false);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(node), 0.218_75 ether);
        vm.assertEq(board.balanceOf(alice), 9.75 ether);
    }

    function test_ARejectedPartReturnsTheWholeFee() public {
        Terms memory terms = partCommitted(alice, model, node, 2500);
        hold(terms);
        vm.expectEmit(address(board));
        emit ITaskBoard.Expired(board.taskIdOf(terms), node, FEE);
        vm.prank(arbiter);
        board.rule(terms, false);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(board.balanceOf(node), 0);
        vm.assertEq(board.settle(one(terms)), 0);
        assertDone(terms, 2500, false);
    }

    /// @dev What the node did not claim to have done goes back, as in a settlement.
    function test_AForfeitedPartReturnsItsRest() public {
        Terms memory terms = partCommitted(alice, model, node, 2500);
        hold(terms);
        vm.expectEmit(address(board));
        emit ITaskBoard.RestReturned(board.taskIdOf(terms), FEE * 3 / 4);
        vm.prank(arbiter);
        (, uint96 amount) = board.forfeit(terms);
        vm.assertEq(amount, FEE / 4);
        vm.assertEq(board.balanceOf(alice), 9.75 ether);
        vm.assertEq(board.balanceOf(arbiter), FEE / 4);
        assertDone(terms, 2500, false);
    }

    function test_AnExpiredHoldReturnsTheWholeFee() public {
        Terms memory terms = partCommitted(alice, model, node, 2500);
        hold(terms);
        skip(HOLD + 1);
        board.expire(terms);
        vm.assertEq(board.balanceOf(alice), 10 ether);
        vm.assertEq(board.balanceOf(node), 0);
        vm.assertEq(board.activeClaimsOf(node), 0);
    }

    /// @dev Each of the two things that are the requester's comes back once.
    function test_RestAndAuditFeeBothReturn() public {
        Terms memory terms = trainingOf(alice, model);
        terms.audit = uint8(AuditMode.Always);
        commitPartOf(terms, node, 2500);
        skip(CHALLENGE);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(alice), 9.75 ether);
    }

    function test_TheAuditFeeOfAHeldPartIsTheArbiters() public {
        Terms memory terms = trainingOf(alice, model);
        terms.audit = uint8(AuditMode.Always);
        commitPartOf(terms, node, 2500);
        hold(terms);
        vm.prank(arbiter);
        board.rule(terms, true);
        board.settle(one(terms));
        vm.assertEq(board.balanceOf(arbiter), AUDIT_FEE);
        vm.assertEq(board.balanceOf(alice), 9.75 ether - AUDIT_FEE);
    }

    // ------------------------------------------------------------------ refusals

    function test_RevertWhen_PartOfAPicture() public {
        Terms memory terms = claimed(alice, model, node);
        refusePart(terms, node, RESULT, 5000, abi.encodeWithSelector(ITaskBoard.PartNotAllowed.selector, 1));
        refuseStop(terms, abi.encodeWithSelector(ITaskBoard.PartNotAllowed.selector, 1));
    }

    function testFuzz_RevertWhen_PartIsNoPart(uint16 doneBps) public {
        Terms memory terms = claimedTraining(alice, model, node);
        doneBps = uint16(clamp(doneBps, 10_000, type(uint16).max));
        refusePart(terms, node, RESULT, doneBps, abi.encodeWithSelector(ITaskBoard.ShareOutOfRange.selector, doneBps));
    }

    function test_RevertWhen_PartIsNotAllowedNow() public {
        Terms memory terms = claimedTraining(alice, model, node);
        refusePart(terms, bob, RESULT, 1, abi.encodeWithSelector(ITaskBoard.NotClaimant.selector, bob, node));
        refusePart(terms, node, 0, 1, abi.encodeWithSelector(ITaskBoard.EmptyResult.selector));
        vm.prank(node);
        board.commitPart(terms, RESULT, TRACE, 1);
        refusePart(terms, node, RESULT, 9999, unexpected(terms, TaskState.Committed));
        terms = claimedTraining(alice, model, node);
        uint40 closes = uint40(vm.getBlockTimestamp() + 120);
        skip(121);
        bytes32 id = board.taskIdOf(terms);
        refusePart(terms, node, RESULT, 1, abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, id, closes));
    }

    function stopped() private returns (Terms memory terms) {
        terms = claimedTraining(alice, model, node);
        vm.prank(alice);
        board.requestStop(terms);
    }

    function hold(Terms memory terms) private {
        vm.prank(arbiter);
        board.hold(terms);
    }

    function refuseStop(Terms memory terms, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(alice);
        board.requestStop(terms);
    }

    function refusePart(Terms memory terms, address who, bytes32 result, uint16 doneBps, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(who);
        board.commitPart(terms, result, TRACE, doneBps);
    }

    function unexpected(Terms memory terms, TaskState state) private view returns (bytes memory) {
        return abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, board.taskIdOf(terms), state);
    }

    function assertDone(Terms memory terms, uint16 wanted, bool asked) private view {
        (uint16 doneBps, bool stopRequested) = board.doneOf(board.taskIdOf(terms));
        vm.assertEq(doneBps, wanted, "share");
        vm.assertTrue(stopRequested == asked, "asked");
    }
}
