// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AuditPhase, DisputePhase, Filing, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {AuditMode, ITaskBoard, TaskState} from "../../src/interfaces/ITaskBoard.sol";
import {commitmentOfRoots} from "../../src/libraries/TaskWord.sol";
import {DisputeFixture} from "../base/DisputeFixture.sol";

/// @dev Disputes that the requester brings: who may, when, and what becomes of the bond.
contract ChallengesTest is DisputeFixture {
    function test_RequesterMayChallengeWithABond() public {
        Filing memory filing = filed(AuditMode.None);
        uint256 before = token.balanceOf(carol);
        vm.expectEmit(address(court));
        emit IArbiter.Challenged(idOf(filing), carol, BOND);
        vm.prank(carol);
        court.challenge(filing);
        vm.assertEq(before - token.balanceOf(carol), BOND);
        vm.assertEq(court.bonds(), BOND);
        assertState(filing.terms, TaskState.Held);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
        vm.assertEq(court.creditOf(carol), BOND + 120 ether);
        vm.assertEq(court.bonds(), 0);
    }

    function test_LostBondGoesToThePool() public {
        Filing memory filing = filed(AuditMode.None);
        vm.prank(carol);
        court.challenge(filing);
        voted(idOf(filing), 3, votesOf(5, GOOD));
        executed(filing);
        vm.assertEq(court.creditOf(carol), 0);
        vm.assertEq(court.bonds(), 0);
        vm.assertEq(court.pool(), BOND - 5 * JUROR_FEE);
        vm.assertEq(board.settle(one(filing.terms)), 1);
    }

    /// @dev A challenge in the middle of an audit takes effect at its end, whatever the auditors say.
    function test_ChallengeDuringAnAudit() public {
        Filing memory filing = filed();
        pokeFor(filing);
        commitAs(nodeAt(1), filing, noise(1));
        commitAs(nodeAt(2), filing, noise(1));
        vm.prank(carol);
        court.challenge(filing);
        assertPhase(filing, AuditPhase.Open);
        revealedBoth(filing, PASS, PASS, noise(1), noise(1));
        assertPhase(filing, DisputePhase.Voting);
        vm.assertTrue(court.auditOf(idOf(filing)).challenged);
    }

    function test_RevertWhen_ChallengedTwiceOrByAnother() public {
        Filing memory filing = filed(AuditMode.None);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NotRequester.selector, nodeAt(1), carol));
        vm.prank(nodeAt(1));
        court.challenge(filing);
        vm.prank(carol);
        court.challenge(filing);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.AlreadyChallenged.selector, idOf(filing)));
        vm.prank(carol);
        court.challenge(filing);
        Filing memory flagged = disputed(FLAG, FLAG);
        vm.expectRevert(
            abi.encodeWithSelector(IArbiter.UnexpectedAuditPhase.selector, idOf(flagged), AuditPhase.Disputed)
        );
        vm.prank(carol);
        court.challenge(flagged);
    }

    function test_RevertWhen_ChallengedTooLateOrWithWrongRoots() public {
        Filing memory filing = filed(AuditMode.None);
        filing.commitment = commitmentOfRoots(TRACE, TRACE);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.FilingMismatch.selector, idOf(filing)));
        vm.prank(carol);
        court.challenge(filing);
        filing.commitment = commitmentOfRoots(RESULT, TRACE);
        uint40 closes = uint40(vm.getBlockTimestamp() + CHALLENGE);
        vm.warp(closes);
        vm.expectRevert(abi.encodeWithSelector(ITaskBoard.WindowClosed.selector, idOf(filing), closes));
        vm.prank(carol);
        court.challenge(filing);
    }
}
