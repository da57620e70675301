// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CreditReason, Filing, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {AuditMode} from "../../src/interfaces/ITaskBoard.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Pool, credits and surplus.
contract PurseTest is AuditFixture {
    /// @dev Protocol fees come to the arbiter because the board names it as treasury.
    function test_CollectTakesWhatTheBoardOwes() public {
        settledTask(FEE);
        uint256 owed = board.balanceOf(address(court));
        vm.assertEq(owed, 0.025 ether);
        vm.expectEmit(address(court));
        emit IArbiter.Collected(owed);
        vm.assertEq(court.collect(), owed);
        vm.assertEq(court.pool(), owed);
        vm.assertEq(court.collect(), 0);
        assertPurse(0);
    }

    function test_SurplusGoesToTheTreasury() public {
        fund(carol, 4000 ether);
        for (uint256 i; i < 11; ++i) {
            settledTask(90 ether);
        }
        uint256 owed = board.balanceOf(address(court));
        court.collect();
        vm.assertEq(court.pool() + court.creditOf(surplus), owed);
        settledTask(90 ether);
        for (uint256 i; i < 15; ++i) {
            settledTask(99 ether);
        }
        uint256 before = court.pool() + board.balanceOf(address(court));
        court.collect();
        vm.assertEq(court.pool(), 50 ether, "the reserve stays");
        vm.assertEq(court.creditOf(surplus), before - 50 ether);
        vm.prank(surplus);
        court.withdraw();
        vm.assertEq(token.balanceOf(surplus), before - 50 ether);
        assertPurse(0);
    }

    function test_AuditorsGetWhatThePoolHas() public {
        Filing memory filing = filed();
        audited(filing, PASS, PASS);
        vm.assertEq(court.creditOf(nodeAt(1)), 0, "nothing came in yet");
        board.settle(one(filing.terms));
        audited(filed(), PASS, PASS);
        vm.assertEq(court.creditOf(nodeAt(1)), 0.025 ether);
        vm.assertEq(court.creditOf(nodeAt(2)), 0);
        vm.assertEq(court.pool(), 0);
        assertPurse(0.025 ether);
    }

    function test_WithdrawPaysOnce() public {
        audited(filed(AuditMode.Always), PASS, PASS);
        uint256 before = token.balanceOf(nodeAt(1));
        vm.expectEmit(address(court));
        emit IArbiter.CreditWithdrawn(nodeAt(1), AUDITOR_FEE);
        vm.prank(nodeAt(1));
        court.withdraw();
        vm.assertEq(token.balanceOf(nodeAt(1)) - before, AUDITOR_FEE);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NothingToWithdraw.selector, nodeAt(1)));
        vm.prank(nodeAt(1));
        court.withdraw();
    }

    function test_RevertWhen_NothingWasBurned() public {
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NothingToWithdraw.selector, BURN));
        court.burn();
    }

    function settledTask(uint96 fee) private {
        Filing memory filing = filed(AuditMode.None, fee);
        skip(CHALLENGE);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }
}
