// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

contract SubmitTest is Fixture {
    function setUp() public override {
        super.setUp();
        fund(alice, 10 ether);
    }

    function test_Submit() public {
        Terms memory terms = termsOf(alice, 7);
        bytes32 taskId = keccak256(abi.encode(block.chainid, address(board), terms));
        uint128 seed = uint128(uint256(keccak256(abi.encode(block.prevrandao, blockhash(block.number - 1), taskId))));
        vm.expectEmit(address(board));
        emit ITaskBoard.Submitted(taskId, alice, terms, seed, uint40(vm.getBlockTimestamp()));
        vm.prank(alice);
        vm.assertEq(board.submit(terms), taskId);
        (uint8 state, address node, uint40 since, uint128 stored) = board.taskOf(taskId);
        vm.assertEq(state, uint8(TaskState.Submitted));
        vm.assertEq(node, address(0));
        vm.assertEq(since, vm.getBlockTimestamp());
        vm.assertEq(stored, seed);
        vm.assertEq(board.balanceOf(alice), 9 ether);
    }

    function testFuzz_TaskIdIsTheHashOfChainBoardAndTerms(Terms memory terms) public view {
        vm.assertEq(board.taskIdOf(terms), keccak256(abi.encode(block.chainid, address(board), terms)));
    }

    function test_RevertWhen_SomebodyElseSubmits() public {
        Terms memory terms = termsOf(alice, 0);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.NotRequester.selector, bob, alice));
        vm.prank(bob);
        board.submit(terms);
    }

    function test_RevertWhen_SubmittedTwice() public {
        Terms memory terms = submitted(alice, 0);
        refuse(terms, abi.encodeWithSelector(ITaskBoard.TaskExists.selector, board.taskIdOf(terms)));
    }

    function test_RevertWhen_SubmittedAgainAfterCancel() public {
        Terms memory terms = submitted(alice, 0);
        skip(CANCEL_DELAY);
        vm.prank(alice);
        board.cancel(terms);
        refuse(terms, abi.encodeWithSelector(ITaskBoard.TaskExists.selector, board.taskIdOf(terms)));
    }

    function testFuzz_RevertWhen_FeeIsTooLow(uint96 fee) public {
        Terms memory terms = termsOf(alice, 0);
        terms.fee = uint96(clamp(fee, 0, 999));
        refuse(terms, abi.encodeWithSelector(ITaskBoard.FeeTooLow.selector, terms.fee, uint96(1000)));
    }

    function testFuzz_RevertWhen_BalanceIsTooLow(uint96 fee) public {
        Terms memory terms = termsOf(alice, 0);
        terms.fee = uint96(clamp(fee, 10 ether + 1, type(uint96).max));
        refuse(
            terms, abi.encodeWithSelector(ITaskBoard.InsufficientBalance.selector, alice, 10 ether, uint256(terms.fee))
        );
    }

    function testFuzz_RevertWhen_ClaimWindowIsOutOfRange(uint32 window) public {
        vm.assume(window < 10 || window > 1 hours);
        Terms memory terms = termsOf(alice, 0);
        terms.claimWindow = window;
        refuse(terms, abi.encodeWithSelector(ITaskBoard.WindowOutOfRange.selector, window, 10, 1 hours));
    }

    function testFuzz_RevertWhen_CommitWindowIsOutOfRange(uint32 window) public {
        vm.assume(window < 10 || window > 1 hours);
        Terms memory terms = termsOf(alice, 0);
        terms.commitWindow = window;
        refuse(terms, abi.encodeWithSelector(ITaskBoard.WindowOutOfRange.selector, window, 10, 1 hours));
    }

    /// @dev The id is a hash of raw calldata, so a word with bits above its type must never become a task: it would be
    /// the same terms under a second id.
    function testFuzz_RevertWhen_TermsHaveStrayBits(uint8 word, uint8 bit) public {
        Terms memory terms = termsOf(alice, 0);
        bytes memory data = abi.encodeCall(ITaskBoard.submit, (terms));
        uint16[8] memory widths = [160, 96, 256, 64, 8, 32, 32, 64];
        uint256 at = clamp(word, 0, 7);
        vm.assume(widths[at] != 256);
        uint256 stray = uint256(1) << clamp(bit, widths[at], 255);
        assembly {
            let place := add(add(data, 0x24), mul(at, 0x20))
            mstore(place, xor(mload(place), stray))
        }
        vm.prank(alice);
        (bool done,) = address(board).call(data);
        vm.assertTrue(!done, "stray bits must be refused");
        vm.assertEq(board.balanceOf(alice), 10 ether);
    }

    function test_SeedsOfOneBlockDiffer() public {
        (,,, uint128 first) = board.taskOf(board.taskIdOf(submitted(alice, 0)));
        (,,, uint128 second) = board.taskOf(board.taskIdOf(submitted(alice, 0)));
        vm.assertTrue(first != second);
    }

    function refuse(Terms memory terms, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(alice);
        board.submit(terms);
    }
}
