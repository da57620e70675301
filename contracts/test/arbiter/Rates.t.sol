// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ArbiterRules, Filing} from "../../src/interfaces/IArbiter.sol";
import {AuditMode} from "../../src/interfaces/ITaskBoard.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev Which tasks are audited.
contract RatesTest is AuditFixture {
    function arbiterRules() internal view override returns (ArbiterRules memory rules_) {
        rules_ = super.arbiterRules();
        (rules_.vettingRateBps, rules_.steadyRateBps, rules_.trustedRateBps) = (5000, 300, 100);
        (rules_.vettingAudits, rules_.trustedAudits) = (1, 2);
        rules_.largeFee = 20 ether;
    }

    function testFuzz_TheChallengePicksAtTheRate(uint64 first) public {
        nonce = first % 1_000_000;
        Filing memory filing = filed();
        bytes32 value = pokeFor(filing);
        vm.assertTrue(court.picked(filing) == (uint64(uint256(value)) % 10_000 < 5000));
    }

    function test_LargeFeesAndRequestsArePicked() public {
        for (uint256 i; i < 8; ++i) {
            Filing memory filing = i % 2 == 0 ? filed(AuditMode.Sampled, 20 ether) : filed(AuditMode.Always);
            pokeFor(filing);
            vm.assertTrue(court.picked(filing));
        }
    }

    function test_RateFallsWithPassedAuditsAndRisesAfterASetback() public {
        vm.assertEq(court.rateBpsOf(worker()), 5000);
        audited(filed(AuditMode.Always), PASS, PASS);
        vm.assertEq(court.rateBpsOf(worker()), 300);
        for (uint256 i; i < 2; ++i) {
            audited(filed(AuditMode.Always), PASS, PASS);
            vm.assertEq(court.rateBpsOf(worker()), 100);
        }
        vm.assertEq(court.passedOf(worker()), 2, "counting stops where it changes nothing");
        Filing memory filing = filed(AuditMode.Always);
        audited(filing, FLAG, FLAG);
        skip(VOTE_COMMIT + VOTE_REVEAL + PERIOD + 1);
        court.tally(idOf(filing));
        executed(filing);
        vm.assertEq(court.rateBpsOf(worker()), 5000, "left in doubt");
    }
}
