// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Marketplace} from "../../src/Marketplace.sol";
import {Royalty} from "../../src/interfaces/IMarketplace.sol";
import {Actor} from "./Actor.sol";
import {World} from "./World.sol";

/// @dev Drives the market: lineages grow, listings change hands and are yanked while tasks that name them run.
contract MarketHandler is Actor {
    Marketplace private immutable marketplace;

    constructor(World world_) Actor(world_) {
        marketplace = world_.marketplace();
    }

    function publish(uint256 who, uint64 parent, uint16 royaltyBps, uint256 time) external after_(time) {
        uint64 count = marketplace.listingCount();
        if (count >= 12) return;
        parent %= count + 1;
        Royalty[] memory above = marketplace.royaltiesOf(parent);
        uint256 room = marketplace.maxRoyaltyBps();
        for (uint256 i; i < above.length; ++i) {
            room -= above[i].bps;
        }
        // Mostly small, so that lineages have room to grow.
        royaltyBps = uint16(clamp(royaltyBps, 0, room < 600 ? room : 600));
        bytes32 manifest = keccak256(abi.encode("manifest", count));
        string memory name = string.concat("model-", vm.toString(count));
        address publisher = world.publishers(who % 3);
        vm.prank(publisher);
        try marketplace.publish(name, manifest, 0, parent, royaltyBps, 0) {
            vm.assertTrue(above.length < 4, "a lineage grew too long");
            if (parent != 0) world.noteStep("derive");
        } catch {
            vm.assertEq(above.length, 4, "a listing was refused");
        }
        steal(manifest, who % 3 + 1);
    }

    function bundle(uint64 first, uint64 second, uint256 time) external after_(time) {
        uint64 count = marketplace.listingCount();
        if (count < 2) return;
        uint64[] memory members = new uint64[](2);
        members[0] = 1 + first % (count - 1);
        members[1] = members[0] + 1 + second % (count - members[0]);
        world.noteBundle(marketplace.bundle(members));
        world.noteStep("bundle");
    }

    function transfer(uint64 id, uint256 to, uint256 time) external after_(time) {
        if (marketplace.listingCount() == 0) return;
        id = 1 + id % marketplace.listingCount();
        address owner = marketplace.royaltiesOf(id)[0].owner;
        address heir = world.publishers(to % 3);
        vm.prank(owner);
        marketplace.transferListing(id, heir);
        world.noteStep("transfer");
    }

    function yank(uint64 id, uint256 time) external after_(time) {
        if (marketplace.listingCount() == 0) return;
        id = 1 + id % marketplace.listingCount();
        address owner = marketplace.royaltiesOf(id)[0].owner;
        vm.prank(owner);
        if (id % 2 == 0) marketplace.yank(id);
        else marketplace.unyank(id);
        world.noteStep("yank");
    }

    /// @dev Another publisher tries to list the same bytes.
    function steal(bytes32 manifest, uint256 who) private {
        if (marketplace.listingOfManifest(manifest) == 0) return;
        address thief = world.publishers(who % 3);
        vm.prank(thief);
        (bool success,) =
            address(marketplace).call(abi.encodeCall(marketplace.publish, ("stolen", manifest, 0, 0, 2000, 0)));
        vm.assertTrue(!success, "a manifest was listed by a stranger");
    }
}
