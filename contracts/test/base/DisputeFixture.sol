// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AuditPhase, DisputeView, Filing, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {AuditMode} from "../../src/interfaces/ITaskBoard.sol";
import {AuditFixture} from "./AuditFixture.sol";

/// @dev A network with nodes enough for two juries of five: nodes 1 and 2 audit, 3 to 7 judge, 8 to 12 hear the appeal.
abstract contract DisputeFixture is AuditFixture {
    /// @dev The larger of 100 fees and 5 % of the worker's stake of 8,000.
    uint256 internal constant PENALTY = 400 ether;

    function nodeCount() internal pure override returns (uint256) {
        return 14;
    }

    function disputed(uint8 first, uint8 second) internal returns (Filing memory filing) {
        filing = filed(AuditMode.Always);
        audited(filing, first, second);
        assertPhase(filing, AuditPhase.Disputed);
    }

    function convicted() internal {
        Filing memory filing = disputed(FLAG, FLAG);
        voted(idOf(filing), 3, votesOf(5, BAD));
        executed(filing);
    }

    /// @dev A pool that can pay everybody.
    function funded() internal returns (uint256) {
        Filing memory filing = filed(AuditMode.None, 200 ether);
        skip(CHALLENGE);
        board.settle(one(filing.terms));
        court.collect();
        return court.pool();
    }

    function noJury(Filing memory filing) internal {
        DisputeView memory dispute = court.disputeOf(idOf(filing));
        vm.warp(dispute.commitBy + 1);
        court.tally(idOf(filing));
    }

    /// @dev Every step in its last second.
    function slowJury(bytes32 id, uint256 first, uint8 vote) internal {
        summoned(id);
        for (uint256 i; i < 4; ++i) {
            commitVoteAs(nodeAt(first + i), id, vote);
        }
        DisputeView memory dispute = court.disputeOf(id);
        vm.warp(dispute.commitBy);
        commitVoteAs(nodeAt(first + 4), id, vote);
        dispute = court.disputeOf(id);
        vm.warp(dispute.revealBy);
        for (uint256 i; i < 5; ++i) {
            revealVoteAs(nodeAt(first + i), id, vote);
        }
        skip(10);
        court.tally(id);
        if (dispute.level == 0) vm.warp(court.disputeOf(id).appealBy);
    }

    function appealAs(address who, bytes32 id) internal {
        token.mint(who, 3 * BOND);
        vm.prank(who);
        token.approve(address(court), 3 * BOND);
        vm.expectEmit(address(court));
        emit IArbiter.Appealed(id, who);
        vm.prank(who);
        court.appeal(id);
        if (who == carol) {
            vm.prank(carol);
            token.approve(address(court), type(uint256).max);
        }
    }

    function lost(address who, bytes32 id) internal {
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NotLosingParty.selector, who));
        vm.prank(who);
        court.appeal(id);
    }

    function refuse(address who, bytes32 id, bytes memory reason) internal {
        vm.expectRevert(reason);
        vm.prank(who);
        court.commitVote(id, RESULT);
    }
}
