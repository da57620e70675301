// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ArbiterRules, IArbiter} from "../../src/interfaces/IArbiter.sol";
import {IBeacon} from "../../src/interfaces/IBeacon.sol";
import {BlockBeacon} from "../../src/BlockBeacon.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Hard ranges of the rules, and what the constructor asks of board, registry and beacon.
contract RulesTest is AuditFixture {
    bytes private expected;

    /// @dev With a kilobyte to spare: a rule that is found wanting has to find room.
    function test_CodeFitsTheSizeLimit() public view {
        vm.assertLe(address(court).code.length, 24_576 - 1024, "runtime code");
        vm.assertLe(vm.getCode("Arbiter.sol:Arbiter").length, 49_152, "creation code");
    }

    function test_ParamsAreWhatWasGiven() public view {
        vm.assertEq(keccak256(abi.encode(court.params())), keccak256(abi.encode(arbiterRules())));
        vm.assertEq(court.treasury(), surplus);
    }

    function test_RevertWhen_ARuleIsOutOfRange() public {
        ArbiterRules memory bad = arbiterRules();
        bad.vettingRateBps = 10_001;
        refuse(bad, 10_001, 0, 10_000);
        bad = arbiterRules();
        bad.steadyRateBps = 10_001;
        refuse(bad, 10_001, 0, 10_000);
        bad = arbiterRules();
        bad.trustedRateBps = 501;
        refuse(bad, 501, 0, 500);
        bad = arbiterRules();
        bad.vettingAudits = 1001;
        refuse(bad, 1001, 0, 1000);
        bad = arbiterRules();
        bad.auditorSeats = 3;
        refuse(bad, 3, 1, 2);
        bad = arbiterRules();
        bad.auditStep = 0;
        refuse(bad, 0, 1, 1 days);
        bad = arbiterRules();
        bad.auditCommitWindow = 8 days;
        refuse(bad, 8 days, 1, 7 days);
        bad = arbiterRules();
        bad.auditRevealWindow = 0;
        refuse(bad, 0, 1, 7 days);
        bad = arbiterRules();
        bad.projectionTolerance = 32_768;
        refuse(bad, 32_768, 0, 32_767);
    }

    /// @dev One vote decides nothing, and two outcomes cannot both have a quorum.
    function test_RevertWhen_AJuryIsOutOfRange() public {
        ArbiterRules memory bad = arbiterRules();
        bad.jurors = 1;
        refuse(bad, 1, 2, 40);
        bad = arbiterRules();
        bad.appealJurors = 41;
        refuse(bad, 41, 2, 40);
        bad = arbiterRules();
        bad.quorum = 2;
        refuse(bad, 2, 3, 5);
        bad = arbiterRules();
        (bad.jurors, bad.quorum) = (2, 1);
        refuse(bad, 1, 2, 2);
        bad = arbiterRules();
        bad.appealQuorum = 6;
        refuse(bad, 6, 3, 5);
    }

    function test_RevertWhen_APenaltyIsOutOfRange() public {
        ArbiterRules memory bad = arbiterRules();
        bad.challengeBond = 0;
        refuse(bad, 0, 1, type(uint96).max / 3);
        bad = arbiterRules();
        bad.penaltyFactor = 1_000_001;
        refuse(bad, 1_000_001, 0, 1_000_000);
        bad = arbiterRules();
        bad.penaltyBps = 10_001;
        refuse(bad, 10_001, 0, 10_000);
        bad = arbiterRules();
        bad.burnBps = 10_001;
        refuse(bad, 10_001, 0, 10_000);
        bad = arbiterRules();
        bad.requesterBps = 5001;
        refuse(bad, 5001, 0, 5000);
        bad = arbiterRules();
        bad.brakeSlashes = 0;
        refuse(bad, 0, 1, type(uint16).max);
        bad = arbiterRules();
        bad.auditorPenalty = 5 * bad.jurorFee - 1;
        refuse(bad, bad.auditorPenalty, 5 * bad.jurorFee, type(uint96).max);
        bad = arbiterRules();
        bad.grace = 0;
        refuse(bad, 0, 1, 7 days);
    }

    function test_RevertWhen_AJuryStepOrWindowIsOutOfRange() public {
        ArbiterRules memory bad = arbiterRules();
        bad.juryStep = 0;
        refuse(bad, 0, 1, 1 days);
        bad = arbiterRules();
        bad.voteCommitWindow = 0;
        refuse(bad, 0, 1, 7 days);
        bad = arbiterRules();
        bad.voteRevealWindow = 8 days;
        refuse(bad, 8 days, 1, 7 days);
        bad = arbiterRules();
        bad.appealWindow = 0;
        refuse(bad, 0, 1, 7 days);
    }

    /// @dev 90 + 50 + 2 * (3 + 80 + 70) + 40 + 4 * 10 = 526 seconds.
    function test_RevertWhen_ADisputeWouldOutlastTheHoldOrTheStake() public {
        ArbiterRules memory bad = arbiterRules();
        bad.appealWindow += 1000 - 526;
        vm.assertTrue(atNextAddress(bad) != address(0));
        bad.appealWindow += 1;
        expected = abi.encodeWithSelector(IArbiter.RuleOutOfRange.selector, 1000, 1001, type(uint32).max);
        atNextAddress(bad);
    }

    function test_RevertWhen_TheSecondAuditorHasNoTime() public {
        ArbiterRules memory bad = arbiterRules();
        bad.auditCommitWindow = CHALLENGE + 9;
        expected =
            abi.encodeWithSelector(IArbiter.RuleOutOfRange.selector, CHALLENGE + 9, CHALLENGE + 10, type(uint32).max);
        atNextAddress(bad);
    }

    function test_RevertWhen_ARoundIsTooLongForTheChallengeWindow() public {
        beacon = new BlockBeacon(CHALLENGE / 2 + 1);
        ArbiterRules memory rules_ = arbiterRules();
        expected = abi.encodeWithSelector(IArbiter.RuleOutOfRange.selector, CHALLENGE, CHALLENGE + 2, type(uint32).max);
        atNextAddress(rules_);
    }

    /// @dev A board that pays its protocol fees elsewhere is a deployment that went wrong.
    function test_RevertWhen_TheBoardsTreasuryIsAnother() public {
        bytes memory code = codeOf(arbiterRules());
        vm.expectRevert(abi.encodeWithSelector(IArbiter.NotTreasury.selector, address(court)));
        make(code);
    }

    function test_RevertWhen_AnAddressIsZero() public {
        bytes memory creation = vm.getCode("Arbiter.sol:Arbiter");
        for (uint256 i; i < 5; ++i) {
            address[5] memory parts = [address(token), address(board), address(registry), address(beacon), surplus];
            parts[i] = address(0);
            bytes memory code =
                bytes.concat(creation, abi.encode(parts[0], parts[1], parts[2], parts[3], parts[4], arbiterRules()));
            vm.expectRevert(IArbiter.ZeroAddress.selector);
            make(code);
        }
    }

    // ------------------------------------------------------------------ steps of these tests

    function refuse(ArbiterRules memory bad, uint256 value, uint256 least, uint256 greatest) private {
        bytes memory code = codeOf(bad);
        vm.expectRevert(abi.encodeWithSelector(IArbiter.RuleOutOfRange.selector, value, least, greatest));
        make(code);
    }

    /// @dev The board is made to name the next contract.
    function atNextAddress(ArbiterRules memory rules_) private returns (address made) {
        bytes memory code = codeOf(rules_);
        address next = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.mockCall(address(board), abi.encodeCall(board.treasury, ()), abi.encode(next));
        if (expected.length != 0) vm.expectRevert(expected);
        return make(code);
    }

    function codeOf(ArbiterRules memory rules_) private view returns (bytes memory) {
        return
            bytes.concat(vm.getCode("Arbiter.sol:Arbiter"), abi.encode(token, board, registry, beacon, surplus, rules_));
    }

    function make(bytes memory code) private returns (address made) {
        assembly {
            made := create(0, add(code, 0x20), mload(code))
        }
    }
}
