// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Marketplace} from "../../src/Marketplace.sol";
import {IMarketplace, Royalty} from "../../src/interfaces/IMarketplace.sol";
import {Fixture} from "../base/Fixture.sol";

contract MarketplaceTest is Fixture {
    bytes32 private constant MANIFEST = keccak256("manifest");
    bytes32 private constant LICENCE = keccak256("licence");

    function test_Publish() public {
        vm.expectEmit(address(marketplace));
        emit IMarketplace.ListingPublished(1, alice, "gesso-tiny", 1, MANIFEST, 1, 0, 500, LICENCE);
        vm.prank(alice);
        vm.assertEq(marketplace.publish("gesso-tiny", MANIFEST, 1, 0, 500, LICENCE), 1);
        (
            address owner,
            bytes32 manifest,
            uint8 kind,
            uint64 parent,
            uint16 royalty,
            bytes32 licence,
            bool yanked,
            string memory name,
            uint32 version
        ) = marketplace.listingOf(1);
        vm.assertEq(owner, alice);
        vm.assertEq(manifest, MANIFEST);
        vm.assertEq(kind, 1);
        vm.assertEq(parent, 0);
        vm.assertEq(royalty, 500);
        vm.assertEq(licence, LICENCE);
        vm.assertTrue(!yanked);
        vm.assertEq(name, "gesso-tiny");
        vm.assertEq(version, 1);
        vm.assertEq(marketplace.listingCount(), 1);
    }

    function test_VersionsCountUp() public {
        list(alice, "a");
        list(alice, "b");
        vm.assertEq(list(alice, "a"), 3);
        vm.assertEq(marketplace.idOf("a", 1), 1);
        vm.assertEq(marketplace.idOf("a", 2), 3);
        vm.assertEq(marketplace.idOf("a", 3), 0);
        (address owner, uint32 version) = marketplace.latestOf("a");
        vm.assertEq(owner, alice);
        vm.assertEq(version, 2);
    }

    function test_RevertWhen_NameBelongsToAnother() public {
        list(alice, "a");
        refuse("a", MANIFEST, 0, 0, 0, abi.encodeWithSelector(IMarketplace.NameTaken.selector, "a", alice));
    }

    function test_RevertWhen_NameIsMalformed() public {
        string[13] memory names = [
            "",
            "Upper",
            "sp ace",
            "-dash",
            "../up",
            unicode"модель",
            ".dot",
            "/zbx",
            "alice/",
            "alice//zbx",
            "alice/../zbx",
            "alice/zbx/two",
            "alice/-zbx"
        ];
        for (uint256 i; i < names.length; ++i) {
            refuse(names[i], MANIFEST, 0, 0, 0, abi.encodeWithSelector(IMarketplace.NameInvalid.selector, names[i]));
        }
        string memory long = string(new bytes(65));
        refuse(long, MANIFEST, 0, 0, 0, abi.encodeWithSelector(IMarketplace.NameInvalid.selector, long));
    }

    /// @dev Exactly the documented alphabet is let through, at every place of the name.
    function testFuzz_NamesAreOfTheAlphabet(bytes1 first, bytes1 second) public {
        bytes memory name = abi.encodePacked(first, second);
        bool plain = letter(first) && (letter(second) || second == "." || second == "-" || second == "_");
        if (!plain) vm.expectRevert(abi.encodeWithSelector(IMarketplace.NameInvalid.selector, name));
        marketplace.publish(string(name), MANIFEST, 0, 0, 0, LICENCE);
    }

    function test_APublishersNamesAreItsOwn() public {
        list(alice, "alice/zbx");
        (address owner, uint32 version) = marketplace.latestOf("alice");
        vm.assertEq(owner, alice);
        vm.assertEq(version, 0);
        vm.assertEq(list(alice, "alice/two"), 2);
        vm.assertEq(list(alice, "alice"), 3);
        (, version) = marketplace.latestOf("alice");
        vm.assertEq(version, 1);
        (,,,,,,, string memory text,) = marketplace.listingOf(3);
        vm.assertEq(text, "alice");
    }

    /// @dev `list` acts for a publisher; `refuse` for bob.
    function test_RevertWhen_ThePublisherIsSomebodyElse() public {
        list(alice, "alice/zbx");
        bytes memory taken = abi.encodeWithSelector(IMarketplace.NameTaken.selector, "alice", alice);
        refuse("alice/other", MANIFEST, 0, 0, 0, taken);
        refuse("alice", MANIFEST, 0, 0, 0, taken);
        refuse(
            "alice/zbx", MANIFEST, 0, 0, 0, abi.encodeWithSelector(IMarketplace.NameTaken.selector, "alice/zbx", alice)
        );
    }

    function test_RevertWhen_ANameIsUsedAsSomebodyElsesPublisher() public {
        list(alice, "gesso-tiny");
        refuse(
            "gesso-tiny/fine",
            MANIFEST,
            0,
            0,
            0,
            abi.encodeWithSelector(IMarketplace.NameTaken.selector, "gesso-tiny", alice)
        );
    }

    /// @dev A slash is let through once, between two parts, and nothing else is different.
    function testFuzz_PartsOfNames(bytes1 before, bytes1 after_) public {
        bytes memory name = abi.encodePacked("a", before, "/", after_);
        bool inner = letter(before) || before == "." || before == "-" || before == "_";
        if (!inner || !letter(after_)) {
            vm.expectRevert(abi.encodeWithSelector(IMarketplace.NameInvalid.selector, name));
        }
        marketplace.publish(string(name), MANIFEST, 0, 0, 0, LICENCE);
    }

    function test_RevertWhen_KindIsUnknown() public {
        refuse("a", MANIFEST, 5, 0, 0, abi.encodeWithSelector(IMarketplace.KindUnknown.selector, 5));
    }

    function test_RevertWhen_ManifestIsEmpty() public {
        refuse("a", 0, 0, 0, 0, abi.encodeWithSelector(IMarketplace.ManifestEmpty.selector));
    }

    function test_RevertWhen_ParentDoesNotExistYet() public {
        refuse("a", MANIFEST, 1, 1, 0, abi.encodeWithSelector(IMarketplace.ListingUnknown.selector, 1));
    }

    function testFuzz_RevertWhen_RoyaltyIsTooHigh(uint16 royalty) public {
        royalty = uint16(clamp(royalty, 2001, type(uint16).max));
        refuse(
            "a", MANIFEST, 0, 0, royalty, abi.encodeWithSelector(IMarketplace.RoyaltyTooHigh.selector, royalty, 2000)
        );
    }

    // ------------------------------------------------------------------ lineages

    function test_RoyaltiesOfALineage() public {
        uint64 base = list(alice, "base");
        uint64 lora = derive(bob, "lora", base, 300);
        uint64 again = derive(alice, "again", lora, 200);
        Royalty[] memory royalties = marketplace.royaltiesOf(again);
        vm.assertEq(royalties.length, 3);
        (uint64[3] memory ids, uint16[3] memory bps) = ([again, lora, base], [uint16(200), 300, 100]);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(royalties[i].listing, ids[i]);
            vm.assertEq(royalties[i].owner, i == 1 ? bob : alice);
            vm.assertEq(royalties[i].bps, bps[i]);
        }
        vm.assertEq(marketplace.royaltiesOf(base).length, 1);
        vm.assertEq(marketplace.royaltiesOf(0).length, 0);
        vm.assertEq(marketplace.royaltiesOf(99).length, 0);
    }

    function test_RevertWhen_TheLineageIsTooLong() public {
        uint64 parent = list(alice, "base");
        parent = derive(alice, "one", parent, 0);
        parent = derive(alice, "two", parent, 0);
        parent = derive(alice, "three", parent, 0);
        vm.assertEq(marketplace.royaltiesOf(parent).length, 4);
        refuse("a", MANIFEST, 1, parent, 0, abi.encodeWithSelector(IMarketplace.LineageTooLong.selector, parent, 4));
    }

    /// @dev The limit holds for the sum, to the last basis point.
    function testFuzz_RoyaltiesOfALineageAreBoundedTogether(uint16 first, uint16 second, uint16 third) public {
        first = uint16(clamp(first, 0, 2000));
        second = uint16(clamp(second, 0, 2000 - first));
        third = uint16(clamp(third, 0, 2000));
        uint64 parent = derive(bob, "b", derive(alice, "a", 0, first), second);
        uint256 sum = uint256(first) + second + third;
        if (sum > 2000) vm.expectRevert(abi.encodeWithSelector(IMarketplace.RoyaltyTooHigh.selector, sum, 2000));
        vm.prank(alice);
        marketplace.publish("c", keccak256("c"), 1, parent, third, LICENCE);
    }

    /// @dev A yank advises users; it takes nothing from those who built on the listing.
    function test_AYankedParentStillEarnsAndMayBeBuiltOn() public {
        uint64 base = list(alice, "base");
        vm.prank(alice);
        marketplace.yank(base);
        uint64 lora = derive(bob, "lora", base, 300);
        vm.assertEq(marketplace.royaltiesOf(lora).length, 2);
    }

    // ------------------------------------------------------------------ manifests

    function test_RevertWhen_AnotherPublishedTheManifest() public {
        uint64 id = list(alice, "a");
        vm.assertEq(marketplace.listingOfManifest(manifestOf("a")), id);
        bytes32 manifest = manifestOf("a");
        refuse("b", manifest, 0, 0, 0, abi.encodeWithSelector(IMarketplace.ManifestTaken.selector, manifest, id, alice));
    }

    function test_ItsOwnerMayListAManifestAgain() public {
        list(alice, "a");
        vm.assertEq(list(alice, "a"), 2);
        vm.assertEq(marketplace.listingOfManifest(manifestOf("a")), 1);
    }

    function test_AManifestGoesWithItsFirstListing() public {
        uint64 id = list(alice, "a");
        vm.prank(alice);
        marketplace.transferListing(id, bob);
        bytes32 manifest = manifestOf("a");
        vm.prank(bob);
        vm.assertEq(marketplace.publish("bobs", manifest, 0, 0, 0, LICENCE), 2);
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.ManifestTaken.selector, manifest, 1, bob));
        vm.prank(alice);
        marketplace.publish("a", manifest, 0, 0, 0, LICENCE);
    }

    function test_YankAndUnyank() public {
        uint64 id = list(alice, "a");
        vm.prank(alice);
        marketplace.yank(id);
        vm.assertTrue(isYanked(id));
        vm.prank(alice);
        marketplace.unyank(id);
        vm.assertTrue(!isYanked(id));
    }

    function test_Transfer() public {
        uint64 id = list(alice, "a");
        vm.expectEmit(address(marketplace));
        emit IMarketplace.ListingTransferred(id, alice, bob);
        vm.prank(alice);
        marketplace.transferListing(id, bob);
        vm.assertEq(marketplace.royaltiesOf(id)[0].owner, bob);
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.NotListingOwner.selector, alice, bob));
        vm.prank(alice);
        marketplace.yank(id);
    }

    function test_RevertWhen_TransferredToNobody() public {
        uint64 id = list(alice, "a");
        vm.expectRevert(IMarketplace.ZeroAddress.selector);
        vm.prank(alice);
        marketplace.transferListing(id, address(0));
    }

    function test_RevertWhen_AnotherTouchesAListing() public {
        uint64 id = list(alice, "a");
        bytes memory why = abi.encodeWithSelector(IMarketplace.NotListingOwner.selector, bob, alice);
        vm.expectRevert(why);
        vm.prank(bob);
        marketplace.yank(id);
        vm.expectRevert(why);
        vm.prank(bob);
        marketplace.unyank(id);
        vm.expectRevert(why);
        vm.prank(bob);
        marketplace.transferListing(id, bob);
    }

    function test_RevertWhen_ListingIsUnknown() public {
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.ListingUnknown.selector, 1));
        marketplace.listingOf(1);
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.ListingUnknown.selector, 1));
        marketplace.yank(1);
    }

    function test_RevertWhen_LimitIsTooHigh() public {
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.RuleOutOfRange.selector, 5001, 0, 5000));
        new Marketplace(5001);
    }

    function list(address owner, string memory name) private returns (uint64) {
        vm.prank(owner);
        return marketplace.publish(name, manifestOf(name), 0, 0, 100, LICENCE);
    }

    function derive(address owner, string memory name, uint64 parent, uint16 royaltyBps) private returns (uint64) {
        vm.prank(owner);
        return marketplace.publish(name, manifestOf(name), 1, parent, royaltyBps, LICENCE);
    }

    function manifestOf(string memory name) private pure returns (bytes32) {
        return keccak256(bytes(name));
    }

    function refuse(string memory name, bytes32 manifest, uint8 kind, uint64 parent, uint16 royalty, bytes memory why)
        private
    {
        vm.expectRevert(why);
        vm.prank(bob);
        marketplace.publish(name, manifest, kind, parent, royalty, LICENCE);
    }

    function isYanked(uint64 id) private view returns (bool value) {
        (,,,,,, value,,) = marketplace.listingOf(id);
    }

    function letter(bytes1 c) private pure returns (bool) {
        return (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
    }
}
