// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {BlockBeacon} from "../../src/BlockBeacon.sol";
import {DrandBeacon} from "../../src/DrandBeacon.sol";
import {CHEATCODES, Vm} from "../base/Vm.sol";

/// @dev What a round costs whoever brings it: whole transactions, committed in snapshots/beacon.json.
contract BeaconGasTest {
    Vm private constant vm = Vm(CHEATCODES);
    uint256 private constant GOAL = 200_000;

    DrandBeacon private drand;
    uint64[] private rounds;
    bytes[] private points;
    bytes[] private wrong;

    function setUp() public {
        vm.warp(1_800_000_000);
        vm.roll(1000);
        drand = new DrandBeacon(30, 1);
        string memory json = vm.readFile("tests/vectors/drand.json");
        uint256[] memory numbers = vm.parseJsonUintArray(json, ".round");
        bytes[] memory signatures = vm.parseJsonBytesArray(json, ".point");
        for (uint256 i; i < numbers.length; ++i) {
            rounds.push(uint64(numbers[i]));
            points.push(signatures[i]);
        }
        wrong = vm.parseJsonBytesArray(vm.readFile("tests/vectors/drand_refused.json"), ".point");
    }

    function test_BlockRound() public {
        BlockBeacon beacon = new BlockBeacon(60);
        beacon.poke();
        vm.snapshotGasLastCall("beacon", "block_poke");
        beacon.poke();
        vm.snapshotGasLastCall("beacon", "block_poke_known");
    }

    function test_DrandRound() public {
        drand.prove(rounds[0], points[0]);
        uint256 first = vm.snapshotGasLastCall("beacon", "drand_prove");
        vm.assertLe(first, GOAL, "a round must stay within the gas goal");
        drand.prove(rounds[0], points[0]);
        vm.snapshotGasLastCall("beacon", "drand_prove_known");
        for (uint256 i = 1; i < rounds.length; ++i) {
            drand.prove(rounds[i], points[i]);
            // The same key each time, so that the last one stands: rounds differ by a few zero bytes of calldata only.
            uint256 later = vm.snapshotGasLastCall("beacon", "drand_prove_later");
            vm.assertLe(later > first ? later - first : first - later, 500, "a round costs what any other costs");
        }
    }

    function test_DrandRefusals() public {
        string[4] memory names = ["signature", "subgroup", "curve", "field"];
        uint8[4] memory cases = [0, 4, 5, 7];
        for (uint256 i; i < names.length; ++i) {
            (bool success,) = address(drand).call(abi.encodeCall(drand.prove, (1000, wrong[cases[i]])));
            vm.snapshotGasLastCall("beacon", string.concat("drand_refused_", names[i]));
            vm.assertTrue(!success);
        }
    }
}
