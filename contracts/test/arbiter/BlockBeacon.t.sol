// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BlockBeacon} from "../../src/BlockBeacon.sol";
import {IBeacon} from "../../src/interfaces/IBeacon.sol";
import {AuditFixture} from "../base/AuditFixture.sol";

/// @dev A beacon of block hashes.
contract BlockBeaconTest is AuditFixture {
    function test_PokeFixesTheCurrentRoundOnce() public {
        uint64 round = beacon.roundAt(uint40(vm.getBlockTimestamp()));
        vm.roll(2000);
        bytes32 wanted = keccak256(abi.encode(blockhash(1999), round));
        vm.expectEmit(address(beacon));
        emit IBeacon.SeedFixed(round, wanted);
        beacon.poke();
        vm.assertEq(beacon.seedOf(round), wanted);
        vm.roll(2001);
        beacon.poke();
        vm.assertEq(beacon.seedOf(round), wanted);
    }

    /// @dev A round that nobody poked is not lost, and the first call for it is the last word.
    function test_ResolveFixesAPastRoundOnce() public {
        uint64 round = beacon.roundAt(uint40(vm.getBlockTimestamp()));
        skip(100 * PERIOD);
        vm.assertEq(beacon.seedOf(round), bytes32(0));
        vm.roll(2000);
        beacon.resolve(round);
        bytes32 seed = beacon.seedOf(round);
        vm.assertTrue(seed != 0);
        vm.roll(2001);
        beacon.resolve(round);
        vm.assertEq(beacon.seedOf(round), seed);
    }

    function testFuzz_RevertWhen_TheRoundHasNotBegun(uint64 ahead) public {
        uint64 current = beacon.roundAt(uint40(vm.getBlockTimestamp()));
        uint64 round = uint64(clamp(ahead, current + 1, type(uint64).max));
        vm.expectRevert(abi.encodeWithSelector(BlockBeacon.RoundAhead.selector, round, current));
        beacon.resolve(round);
    }

    function testFuzz_RoundsFollowTheClock(uint40 time) public view {
        uint64 round = beacon.roundAt(time);
        vm.assertLe(beacon.startOf(round), time);
        vm.assertTrue(time - beacon.startOf(round) < PERIOD);
    }

    function test_RevertWhen_ThePeriodIsOutOfRange() public {
        vm.expectRevert(abi.encodeWithSelector(BlockBeacon.PeriodOutOfRange.selector, 0, 1, 1 days));
        new BlockBeacon(0);
        vm.expectRevert(abi.encodeWithSelector(BlockBeacon.PeriodOutOfRange.selector, 86_401, 1, 1 days));
        new BlockBeacon(1 days + 1);
    }
}
