// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DrandBeacon} from "../../src/DrandBeacon.sol";
import {IBeacon} from "../../src/interfaces/IBeacon.sol";
import {IDrandBeacon} from "../../src/interfaces/IDrandBeacon.sol";
import {CHEATCODES, Vm} from "../base/Vm.sol";

/// @dev Rounds that drand published, and points that look like signatures and are none; tests/vectors/drand.py checked
/// both with another implementation of the curve.
contract DrandBeaconTest {
    Vm private constant vm = Vm(CHEATCODES);
    uint40 private constant GENESIS = 1_692_803_367;
    /// @dev What a caller may lose by a malformed signature, and by one that only the pairing finds out.
    uint256 private constant CHEAP = 60_000;
    uint256 private constant DEAR = 250_000;

    DrandBeacon private beacon;
    uint64[] private rounds;
    bytes[] private points;
    bytes32[] private seeds;

    function setUp() public {
        beacon = new DrandBeacon(0, 1);
        string memory json = vm.readFile("tests/vectors/drand.json");
        uint256[] memory numbers = vm.parseJsonUintArray(json, ".round");
        bytes[] memory signatures = vm.parseJsonBytesArray(json, ".point");
        bytes32[] memory randomness = vm.parseJsonBytes32Array(json, ".randomness");
        for (uint256 i; i < numbers.length; ++i) {
            rounds.push(uint64(numbers[i]));
            points.push(signatures[i]);
            seeds.push(randomness[i]);
        }
    }

    // ------------------------------------------------------------------ right rounds

    function test_PublishedRoundsGiveThePublishedRandomness() public {
        vm.assertTrue(rounds.length >= 6, "too few vectors");
        for (uint256 i; i < rounds.length; ++i) {
            vm.assertEq(beacon.seedOf(rounds[i]), 0);
            vm.expectEmit(address(beacon));
            emit IBeacon.SeedFixed(rounds[i], seeds[i]);
            vm.assertEq(beacon.prove(rounds[i], points[i]), seeds[i], vm.toString(rounds[i]));
            vm.assertEq(beacon.seedOf(rounds[i]), seeds[i]);
        }
    }

    /// @dev Two watchers bring the same round in one block: the second neither fails nor pays for a pairing.
    function test_AKnownRoundIsReturnedWithoutLookingAtTheSignature() public {
        beacon.prove(rounds[0], points[0]);
        uint256 before = gasleft();
        vm.assertEq(beacon.prove(rounds[0], ""), seeds[0]);
        vm.assertLe(before - gasleft(), 40_000);
    }

    /// @dev Every tenth round of drand only: numbers are tenths, signatures those of drand's own rounds.
    function test_AStrideSharesOneProof() public {
        DrandBeacon tenth = new DrandBeacon(0, 10);
        vm.assertEq(rounds[0], 1000);
        vm.assertEq(tenth.prove(100, points[0]), seeds[0]);
        vm.assertEq(tenth.startOf(100), beacon.startOf(1000));
        vm.assertEq(tenth.roundAt(tenth.startOf(100)), 100);
        vm.assertEq(tenth.roundAt(tenth.startOf(100) - 1), 99);
        vm.assertEq(tenth.roundAt(beacon.startOf(1009)), 100);
        vm.expectRevert(abi.encodeWithSelector(IDrandBeacon.SignatureRefused.selector, 1000));
        tenth.prove(1000, points[0]);
    }

    function test_RevertWhen_TheStrideIsNothingOrOverAnHour() public {
        vm.expectRevert(abi.encodeWithSelector(IDrandBeacon.RuleOutOfRange.selector, 0, 1, 1200));
        new DrandBeacon(0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDrandBeacon.RuleOutOfRange.selector, 1201, 1, 1200));
        new DrandBeacon(0, 1201);
    }

    // ------------------------------------------------------------------ wrong ones

    function test_RevertWhen_ThePointIsNoSignature() public {
        string memory json = vm.readFile("tests/vectors/drand_refused.json");
        bytes[] memory wrong = vm.parseJsonBytesArray(json, ".point");
        string[] memory why = vm.parseJsonStringArray(json, ".why");
        vm.assertTrue(wrong.length >= 12, "too few vectors");
        for (uint256 i; i < wrong.length; ++i) {
            bytes memory reason = abi.encodePacked(IDrandBeacon.CoordinateOutOfField.selector);
            if (same(why[i], "pairing")) reason = mismatch(1000);
            else if (!same(why[i], "field")) reason = abi.encodePacked(IDrandBeacon.PointInvalid.selector);
            refused(1000, wrong[i], reason, same(why[i], "pairing") ? DEAR : CHEAP);
        }
    }

    /// @dev Only its own round: a signature is worth nothing for any other number.
    function test_RevertWhen_TheSignatureIsOfAnotherRound() public {
        for (uint256 i; i < rounds.length; ++i) {
            uint64 other = rounds[(i + 1) % rounds.length];
            refused(other, points[i], mismatch(other), DEAR);
        }
    }

    function testFuzz_RevertWhen_TheRoundIsWrong(uint64 round, uint256 pick) public {
        pick %= rounds.length;
        vm.assume(round != rounds[pick]);
        refused(round, points[pick], mismatch(round), DEAR);
    }

    function testFuzz_RevertWhen_ABitIsFlipped(uint256 pick, uint256 bit) public {
        pick %= rounds.length;
        bit %= 96 * 8;
        bytes memory point = points[pick];
        point[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        // Flipped bits leave the curve, since each x has two y and they differ in more than a bit; none reaches the pairing.
        refused(rounds[pick], point, "", CHEAP);
    }

    function testFuzz_RevertWhen_TheLengthIsWrong(bytes calldata signature) public {
        vm.assume(signature.length != 96);
        refused(
            rounds[0],
            signature,
            abi.encodeWithSelector(IDrandBeacon.SignatureLength.selector, signature.length),
            2_000_000
        );
    }

    function test_RevertWhen_TheSignatureIsCompressedPaddedOrCut() public {
        uint256[5] memory lengths = [uint256(0), 48, 95, 97, 128];
        for (uint256 i; i < lengths.length; ++i) {
            bytes memory reason = abi.encodeWithSelector(IDrandBeacon.SignatureLength.selector, lengths[i]);
            refused(rounds[0], new bytes(lengths[i]), reason, CHEAP);
        }
    }

    function testFuzz_RevertWhen_TheCoordinatesAreAnything(uint256 a, uint256 b, uint256 c) public {
        refused(rounds[0], abi.encodePacked(a, b, c), "", CHEAP);
    }

    // ------------------------------------------------------------------ time

    function test_RoundsFollowDrandsClock() public view {
        vm.assertEq(beacon.roundAt(GENESIS - 1), 0);
        vm.assertEq(beacon.roundAt(GENESIS), 1);
        vm.assertEq(beacon.roundAt(GENESIS + 2), 1);
        vm.assertEq(beacon.roundAt(GENESIS + 3), 2);
        vm.assertEq(beacon.startOf(0), 0);
        vm.assertEq(beacon.startOf(1), GENESIS);
        vm.assertEq(beacon.startOf(1000), GENESIS + 2997);
        vm.assertEq(beacon.startOf(type(uint64).max), type(uint40).max);
    }

    function testFuzz_ARoundBeginsInTimeAndNeverFallsBack(uint40 time, uint40 later, uint32 lag, uint32 stride) public {
        stride = 1 + stride % 1200;
        DrandBeacon late = new DrandBeacon(lag % 3601, stride);
        if (later < time) (time, later) = (later, time);
        uint64 round = late.roundAt(time);
        vm.assertLe(late.startOf(round), time);
        vm.assertLe(round, late.roundAt(later));
        if (round != 0 && time < type(uint40).max - 3600) {
            vm.assertTrue(time < late.startOf(round + 1));
            vm.assertEq(late.startOf(round + 1) - late.startOf(round), 3 * stride);
        }
    }

    /// @dev The next round by a chain whose clock is behind by up to `lag` is not public yet.
    function testFuzz_ALaggingChainNeverNamesAPublicRound(uint32 behind, uint32 lag, uint40 real, uint32 stride)
        public
    {
        lag %= 3601;
        behind %= lag + 1;
        vm.assume(real > GENESIS + 3600);
        stride = 1 + stride % 1200;
        DrandBeacon late = new DrandBeacon(lag, stride);
        uint64 next = (late.roundAt(real - behind) + 1) * stride;
        vm.assertTrue(beacon.startOf(next) > real || real > type(uint40).max - 3);
    }

    function test_RevertWhen_TheLagIsOverAnHour() public {
        vm.expectRevert(abi.encodeWithSelector(IDrandBeacon.RuleOutOfRange.selector, 3601, 0, 3600));
        new DrandBeacon(3601, 1);
    }

    // ------------------------------------------------------------------ internals

    function mismatch(uint64 round) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDrandBeacon.SignatureRefused.selector, round);
    }

    /// @dev An empty `reason` stands for any refusal of this contract.
    function refused(uint64 round, bytes memory signature, bytes memory reason, uint256 budget) private {
        uint256 before = gasleft();
        (bool success, bytes memory data) = address(beacon).call(abi.encodeCall(IDrandBeacon.prove, (round, signature)));
        vm.assertLe(before - gasleft(), budget, "a refusal must be cheap");
        vm.assertTrue(!success, "accepted");
        vm.assertTrue(data.length >= 4, "refused without a reason");
        if (reason.length != 0) vm.assertEq(data, reason);
        vm.assertEq(beacon.seedOf(round), 0);
    }

    function same(string memory a, string memory b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }
}
