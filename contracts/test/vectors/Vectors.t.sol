// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Royalty} from "../../src/interfaces/IMarketplace.sol";
import {ITaskBoard, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fees} from "../../src/libraries/Fees.sol";
import {Sortition} from "../../src/libraries/Sortition.sol";
import {Fixture} from "../base/Fixture.sol";
import {Merkle} from "./Merkle.sol";

/// @dev The vectors of gesso_protocol: Python wrote them, Solidity must give the same answers.
contract VectorsTest is Fixture {
    function test_TaskIds() public {
        string memory json = load("terms");
        bytes32[] memory ids = vm.parseJsonBytes32Array(json, ".taskId");
        uint256[] memory chains = vm.parseJsonUintArray(json, ".chainId");
        address[] memory boards = vm.parseJsonAddressArray(json, ".board");
        vm.assertTrue(ids.length >= 8, "too few vectors");
        for (uint256 i; i < ids.length; ++i) {
            // The same code elsewhere: an id binds the chain and the board.
            vm.chainId(chains[i]);
            vm.etch(boards[i], address(board).code);
            vm.assertEq(ITaskBoard(boards[i]).taskIdOf(termsAt(json, i)), ids[i], vm.toString(i));
        }
    }

    function test_Scores() public view {
        string memory json = load("sortition");
        uint256[] memory seeds = vm.parseJsonUintArray(json, ".seed");
        bytes32[] memory ids = vm.parseJsonBytes32Array(json, ".taskId");
        address[] memory nodes = vm.parseJsonAddressArray(json, ".node");
        uint256[] memory scores = vm.parseJsonUintArray(json, ".score");
        vm.assertTrue(scores.length >= 50, "too few vectors");
        for (uint256 i; i < scores.length; ++i) {
            vm.assertEq(Sortition.score(uint128(seeds[i]), ids[i], nodes[i]), scores[i], vm.toString(i));
        }
    }

    function test_Thresholds() public view {
        string memory json = load("sortition");
        uint256[] memory totals = vm.parseJsonUintArray(json, ".totalWeight");
        uint256[] memory weights = vm.parseJsonUintArray(json, ".weight");
        uint256[] memory elapsed = vm.parseJsonUintArray(json, ".elapsed");
        uint256[] memory steps = vm.parseJsonUintArray(json, ".step");
        uint256[] memory limits = vm.parseJsonUintArray(json, ".threshold");
        uint256[] memory scores = vm.parseJsonUintArray(json, ".score");
        bool[] memory may = vm.parseJsonBoolArray(json, ".mayClaim");
        for (uint256 i; i < limits.length; ++i) {
            uint256 limit = Sortition.threshold(totals[i], weights[i], elapsed[i], steps[i]);
            vm.assertEq(limit, limits[i], vm.toString(i));
            vm.assertTrue((scores[i] <= limit) == may[i], vm.toString(i));
        }
    }

    /// @dev From `mayClaimAt` on a node may claim, and not one second earlier.
    function test_FirstSecondToClaim() public view {
        string memory json = load("sortition");
        uint256[] memory totals = vm.parseJsonUintArray(json, ".totalWeight");
        uint256[] memory weights = vm.parseJsonUintArray(json, ".weight");
        uint256[] memory steps = vm.parseJsonUintArray(json, ".step");
        uint256[] memory scores = vm.parseJsonUintArray(json, ".score");
        uint256[] memory first = vm.parseJsonUintArray(json, ".mayClaimAt");
        for (uint256 i; i < first.length; ++i) {
            vm.assertLe(scores[i], Sortition.threshold(totals[i], weights[i], first[i], steps[i]), vm.toString(i));
            if (first[i] == 0) continue;
            uint256 before = Sortition.threshold(totals[i], weights[i], first[i] - 1, steps[i]);
            vm.assertTrue(scores[i] > before, vm.toString(i));
        }
    }

    function test_FeeSplits() public view {
        string memory json = load("fees");
        uint256[] memory fees = vm.parseJsonUintArray(json, ".fee");
        uint256[] memory royaltyBps = vm.parseJsonUintArray(json, ".royaltyBps");
        uint256[] memory protocolBps = vm.parseJsonUintArray(json, ".protocolBps");
        uint256[] memory nodes = vm.parseJsonUintArray(json, ".toNode");
        uint256[] memory royalties = vm.parseJsonUintArray(json, ".royalty");
        uint256[] memory protocols = vm.parseJsonUintArray(json, ".protocolFee");
        vm.assertTrue(fees.length >= 50, "too few vectors");
        for (uint256 i; i < fees.length; ++i) {
            Royalty[] memory one = new Royalty[](1);
            one[0].bps = uint16(royaltyBps[i]);
            (uint96 toNode, uint96 royalty, uint96 protocolFee) =
                Fees.split(uint96(fees[i]), one, new uint256[](1), protocolBps[i]);
            vm.assertEq(toNode, nodes[i], vm.toString(i));
            vm.assertEq(royalty, royalties[i], vm.toString(i));
            vm.assertEq(protocolFee, protocols[i], vm.toString(i));
        }
    }

    function test_RoyaltiesAlongParents() public view {
        string memory json = load("royalties");
        uint256[] memory fees = vm.parseJsonUintArray(json, ".fee");
        bytes[] memory lineages = vm.parseJsonBytesArray(json, ".royaltyBps");
        uint256[] memory protocolBps = vm.parseJsonUintArray(json, ".protocolBps");
        uint256[] memory nodes = vm.parseJsonUintArray(json, ".toNode");
        bytes[] memory parts = vm.parseJsonBytesArray(json, ".royalties");
        uint256[] memory protocols = vm.parseJsonUintArray(json, ".protocolFee");
        vm.assertTrue(fees.length >= 40, "too few vectors");
        for (uint256 i; i < fees.length; ++i) {
            Royalty[] memory royalties = lineageOf(lineages[i]);
            uint256[] memory owed = new uint256[](royalties.length);
            (uint96 toNode,, uint96 protocolFee) = Fees.split(uint96(fees[i]), royalties, owed, protocolBps[i]);
            vm.assertEq(toNode, nodes[i], vm.toString(i));
            vm.assertEq(protocolFee, protocols[i], vm.toString(i));
            vm.assertEq(abi.encodePacked(owed), parts[i]);
        }
    }

    function test_Parts() public view {
        string memory json = load("parts");
        uint256[] memory fees = vm.parseJsonUintArray(json, ".fee");
        uint256[] memory done = vm.parseJsonUintArray(json, ".doneBps");
        bytes[] memory lineages = vm.parseJsonBytesArray(json, ".royaltyBps");
        uint256[] memory protocolBps = vm.parseJsonUintArray(json, ".protocolBps");
        uint256[] memory rests = vm.parseJsonUintArray(json, ".rest");
        uint256[] memory nodes = vm.parseJsonUintArray(json, ".toNode");
        bytes[] memory parts = vm.parseJsonBytesArray(json, ".royalties");
        uint256[] memory protocols = vm.parseJsonUintArray(json, ".protocolFee");
        vm.assertTrue(fees.length >= 40, "too few vectors");
        for (uint256 i; i < fees.length; ++i) {
            uint96 due = Fees.due(uint96(fees[i]), uint16(done[i]));
            vm.assertEq(fees[i] - due, rests[i], vm.toString(i));
            Royalty[] memory royalties = lineageOf(lineages[i]);
            uint256[] memory owed = new uint256[](royalties.length);
            (uint96 toNode,, uint96 protocolFee) = Fees.split(due, royalties, owed, protocolBps[i]);
            vm.assertEq(toNode, nodes[i], vm.toString(i));
            vm.assertEq(protocolFee, protocols[i], vm.toString(i));
            vm.assertEq(abi.encodePacked(owed), parts[i]);
        }
    }

    function test_MerkleProofs() public view {
        string memory json = load("merkle");
        bytes32[] memory roots = vm.parseJsonBytes32Array(json, ".root");
        bytes32[] memory leaves = vm.parseJsonBytes32Array(json, ".leaf");
        uint256[] memory indices = vm.parseJsonUintArray(json, ".index");
        uint256[] memory depths = vm.parseJsonUintArray(json, ".depth");
        bytes[] memory proofs = vm.parseJsonBytesArray(json, ".proof");
        for (uint256 i; i < roots.length; ++i) {
            bytes32[] memory siblings = words(proofs[i]);
            vm.assertEq(siblings.length, depths[i]);
            vm.assertTrue(Merkle.verify(roots[i], leaves[i], indices[i], siblings), vm.toString(i));
            vm.assertTrue(!Merkle.verify(roots[i], ~leaves[i], indices[i], siblings), vm.toString(i));
            vm.assertTrue(!Merkle.verify(roots[i], leaves[i], indices[i] + (1 << depths[i]), siblings));
            if (depths[i] == 0) continue;
            vm.assertTrue(!Merkle.verify(roots[i], leaves[i], indices[i] ^ 1, siblings), vm.toString(i));
        }
    }

    function termsAt(string memory json, uint256 i) private pure returns (Terms memory) {
        return Terms({
            requester: vm.parseJsonAddressArray(json, ".requester")[i],
            fee: uint96(vm.parseJsonUintArray(json, ".fee")[i]),
            spec: vm.parseJsonBytes32Array(json, ".spec")[i],
            model: uint64(vm.parseJsonUintArray(json, ".model")[i]),
            kind: uint8(vm.parseJsonUintArray(json, ".kind")[i]),
            claimWindow: uint32(vm.parseJsonUintArray(json, ".claimWindow")[i]),
            commitWindow: uint32(vm.parseJsonUintArray(json, ".commitWindow")[i]),
            nonce: uint64(vm.parseJsonUintArray(json, ".nonce")[i]),
            audit: uint8(vm.parseJsonUintArray(json, ".audit")[i])
        });
    }

    function lineageOf(bytes memory joined) private pure returns (Royalty[] memory royalties) {
        bytes32[] memory lineage = words(joined);
        royalties = new Royalty[](lineage.length);
        for (uint256 k; k < lineage.length; ++k) {
            royalties[k].bps = uint16(uint256(lineage[k]));
        }
    }

    function words(bytes memory joined) private pure returns (bytes32[] memory split) {
        split = new bytes32[](joined.length / 32);
        for (uint256 i; i < split.length; ++i) {
            assembly {
                mstore(add(add(split, 0x20), mul(i, 0x20)), mload(add(add(joined, 0x20), mul(i, 0x20))))
            }
        }
    }

    function load(string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("tests/vectors/", name, ".json"));
    }
}
