// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ITaskBoard, TaskState, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {Fixture} from "../base/Fixture.sol";

contract ClaimTest is Fixture {
    address private node = nodeAt(0);

    function setUp() public override {
        super.setUp();
        fund(alice, 100 ether);
        join(node);
    }

    function test_Claim() public {
        Terms memory terms = submitted(alice, 0);
        skip(3);
        vm.expectEmit(address(board));
        emit ITaskBoard.Claimed(board.taskIdOf(terms), node, uint40(vm.getBlockTimestamp() + 120));
        vm.prank(node);
        board.claim(terms);
        (uint8 state, address who, uint40 since, uint128 seed) = board.taskOf(board.taskIdOf(terms));
        vm.assertEq(state, uint8(TaskState.Claimed));
        vm.assertEq(who, node);
        vm.assertEq(since, vm.getBlockTimestamp());
        vm.assertEq(seed, 0);
        vm.assertEq(board.activeClaimsOf(node), 1);
    }

    /// @dev A lone node has all the weight and never waits.
    function testFuzz_LoneNodeClaimsAtOnce(uint64 salt) public {
        nonce = salt >> 1;
        Terms memory terms = submitted(alice, 0);
        vm.prank(node);
        board.claim(terms);
        assertState(terms, TaskState.Claimed);
    }

    /// @dev The board lets a node in exactly from the second that the sortition rule gives.
    function testFuzz_ClaimOpensWhenTheThresholdReachesTheScore(uint64 salt, uint8 others) public {
        for (uint256 i = 1; i <= clamp(others, 1, 12); ++i) {
            join(nodeAt(i));
        }
        nonce = salt >> 1;
        Terms memory terms = submitted(alice, 0);
        bytes32 taskId = board.taskIdOf(terms);
        (,, uint40 at, uint128 seed) = board.taskOf(taskId);
        uint256 score = Sortition.score(seed, taskId, node);
        uint256 limit;
        uint256 elapsed;
        while ((limit = Sortition.threshold(board.totalWeight(), 1, elapsed, STEP)) < score) {
            vm.warp(at + elapsed + STEP - 1);
            refuse(terms, node, abi.encodeWithSelector(ITaskBoard.SortitionNotReached.selector, score, limit));
            elapsed += STEP;
        }
        vm.warp(at + elapsed);
        vm.prank(node);
        board.claim(terms);
        assertState(terms, TaskState.Claimed);
    }

    function test_RevertWhen_SecondNodeClaims() public {
        join(nodeAt(1));
        Terms memory terms = claimed(alice, 0, node);
        skip(200);
        refuse(
            terms,
            nodeAt(1),
            abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, board.taskIdOf(terms), TaskState.Claimed)
        );
    }

    function test_RevertWhen_TaskIsUnknown() public {
        Terms memory terms = termsOf(alice, 0);
        refuse(
            terms,
            node,
            abi.encodeWithSelector(ITaskBoard.UnexpectedState.selector, board.taskIdOf(terms), TaskState.None)
        );
    }

    function test_RevertWhen_CallerIsNoNode() public {
        Terms memory terms = submitted(alice, 0);
        refuse(terms, bob, abi.encodeWithSelector(ITaskBoard.NodeNotEligible.selector, bob));
    }

    function test_RevertWhen_NodeIsPaused() public {
        Terms memory terms = submitted(alice, 0);
        vm.prank(node);
        registry.pause();
        refuse(terms, node, abi.encodeWithSelector(ITaskBoard.NodeNotEligible.selector, node));
    }

    function test_RevertWhen_NodeIsUnbonding() public {
        Terms memory terms = submitted(alice, 0);
        vm.prank(node);
        registry.beginUnbond();
        refuse(terms, node, abi.encodeWithSelector(ITaskBoard.NodeNotEligible.selector, node));
    }

    /// @dev With a delay as long as the claim window, nobody can make an address that suits a seed already drawn.
    function test_RevertWhen_NodeJoinedWithinTheActivationDelay() public {
        deploy(600);
        fund(alice, 10 ether);
        join(node);
        Terms memory terms = submitted(alice, 0);
        refuse(terms, node, abi.encodeWithSelector(ITaskBoard.NodeNotEligible.selector, node));
        vm.assertEq(board.weightOf(node), 0);
        skip(600);
        vm.assertEq(board.weightOf(node), 1);
        vm.prank(node);
        board.claim(terms);
    }

    function test_ClaimAtTheLastSecond() public {
        Terms memory terms = submitted(alice, 0);
        skip(600);
        vm.prank(node);
        board.claim(terms);
        assertState(terms, TaskState.Claimed);
    }

    function test_RevertWhen_ClaimWindowIsClosed() public {
        Terms memory terms = submitted(alice, 0);
        uint40 closes = uint40(vm.getBlockTimestamp() + 600);
        skip(601);
        refuse(terms, node, abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, board.taskIdOf(terms), closes));
    }

    function test_RevertWhen_NodeHasTooManyClaims() public {
        for (uint256 i; i < 4; ++i) {
            claimed(alice, 0, node);
        }
        Terms memory terms = submitted(alice, 0);
        refuse(terms, node, abi.encodeWithSelector(ITaskBoard.TooManyClaims.selector, 4, 4));
    }

    function test_StakeBuysRoomForClaims() public {
        token.mint(node, STAKE);
        vm.prank(node);
        registry.addStake(STAKE);
        for (uint256 i; i < 8; ++i) {
            claimed(alice, 0, node);
        }
        vm.assertEq(board.activeClaimsOf(node), 8);
    }

    function refuse(Terms memory terms, address who, bytes memory why) private {
        vm.expectRevert(why);
        vm.prank(who);
        board.claim(terms);
    }
}
