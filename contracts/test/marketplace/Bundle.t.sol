// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Marketplace} from "../../src/Marketplace.sol";
import {IMarketplace, Royalty} from "../../src/interfaces/IMarketplace.sol";
import {ITaskBoard, Terms} from "../../src/interfaces/ITaskBoard.sol";
import {Fixture} from "../base/Fixture.sol";

/// @dev The market's limit is 2000 basis points; the base asks for 1000.
contract BundleTest is Fixture {
    uint64 private base;
    uint64 private lora;
    uint64 private other;

    function setUp() public override {
        super.setUp();
        base = publish();
        lora = derive(alice, "lora", base, 500);
        other = derive(bob, "other", base, 300);
    }

    function test_EveryMemberEarnsAndTheirBaseOnce() public {
        uint64 id = marketplace.bundle(two(lora, other));
        Royalty[] memory royalties = marketplace.royaltiesOf(id);
        vm.assertEq(royalties.length, 3);
        (uint64[3] memory ids, uint16[3] memory bps) = ([lora, base, other], [uint16(500), 1000, 300]);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(royalties[i].listing, ids[i]);
            vm.assertEq(royalties[i].bps, bps[i]);
        }
        vm.assertEq(royalties[2].owner, bob);
    }

    function test_TheSameMembersHaveOneNumberThatIsNoListings() public {
        vm.assertEq(marketplace.bundleOf(two(lora, other)), 0);
        vm.expectEmit(address(marketplace));
        emit IMarketplace.BundleMade((1 << 63) + 1, two(lora, other));
        uint64 id = marketplace.bundle(two(lora, other));
        vm.prank(bob);
        vm.assertEq(marketplace.bundle(two(lora, other)), id);
        vm.assertEq(marketplace.bundleOf(two(lora, other)), id);
        vm.assertEq(marketplace.bundle(two(base, other)), id + 1);
        vm.assertEq(marketplace.listingCount(), 3);
        uint64[] memory members = marketplace.membersOf(id);
        vm.assertEq(members.length, 2);
        vm.assertEq(members[0], lora);
        vm.assertEq(members[1], other);
        vm.assertEq(marketplace.membersOf(id + 2).length, 0);
        vm.assertEq(marketplace.royaltiesOf(id + 2).length, 0);
        vm.assertEq(marketplace.royaltiesOf(1 << 63).length, 0);
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.ListingUnknown.selector, id));
        marketplace.listingOf(id);
    }

    /// @dev Otherwise a requester that adds listings of its own would take back what others ask for.
    function test_NobodyGetsLessForThoseBeside() public {
        uint64 third = derive(bob, "third", base, 1000);
        uint64[] memory members = new uint64[](3);
        (members[0], members[1], members[2]) = (lora, other, third);
        Royalty[] memory royalties = marketplace.royaltiesOf(marketplace.bundle(members));
        // 2800 together: more than one listing may ask for.
        uint16[4] memory bps = [uint16(500), 1000, 300, 1000];
        for (uint256 i; i < 4; ++i) {
            vm.assertEq(royalties[i].bps, bps[i]);
        }
    }

    function test_RevertWhen_TogetherTheyAskForTooMuch() public {
        vm.assertEq(marketplace.maxBundleBps(), 5000);
        uint64[] memory members = new uint64[](5);
        for (uint256 i; i < 4; ++i) {
            members[i] = derive(bob, string.concat("dear", vm.toString(i)), base, 1000);
        }
        members[4] = derive(bob, "one-too-many", base, 1);
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.RoyaltyTooHigh.selector, 5001, 5000));
        marketplace.bundle(members);
        vm.assertEq(marketplace.bundleOf(members), 0);
    }

    function test_TheLimitIsThreeTimesThatOfAListing() public {
        vm.assertEq(new Marketplace(1000).maxBundleBps(), 3000);
        vm.assertEq(new Marketplace(0).maxBundleBps(), 0);
        vm.assertEq(new Marketplace(1667).maxBundleBps(), 5000);
    }

    function test_AMemberMadeFromAnotherAddsItselfAlone() public {
        uint64 fine = derive(bob, "fine", lora, 100);
        Royalty[] memory royalties = marketplace.royaltiesOf(marketplace.bundle(two(lora, fine)));
        vm.assertEq(royalties.length, 3);
        vm.assertEq(royalties[2].listing, fine);
    }

    function test_RoyaltiesOfABundleArePaidToTheWei() public {
        address node = nodeAt(0);
        join(node);
        fund(alice, 10 ether);
        uint64 id = marketplace.bundle(two(lora, other));
        Terms memory terms = termsOf(alice, id);
        terms.fee = 1 ether + 7;
        claimOf(terms, node);
        vm.prank(node);
        board.commit(terms, RESULT, TRACE);
        skip(CHALLENGE);
        uint256 before = board.balanceOf(alice);
        uint256 fee = terms.fee;
        vm.expectEmit(address(board));
        emit ITaskBoard.RoyaltyPaid(lora, alice, fee * 500 / 10_000);
        vm.expectEmit(address(board));
        emit ITaskBoard.RoyaltyPaid(base, publisher, fee * 1000 / 10_000);
        vm.expectEmit(address(board));
        emit ITaskBoard.RoyaltyPaid(other, bob, fee * 300 / 10_000);
        vm.assertEq(board.settle(one(terms)), 1);
        vm.assertEq(board.balanceOf(alice) - before, fee * 500 / 10_000);
        vm.assertEq(board.balanceOf(publisher), fee * 1000 / 10_000);
        vm.assertEq(board.balanceOf(bob), fee * 300 / 10_000);
    }

    function test_RevertWhen_TheSizeIsWrong() public {
        for (uint256 size; size < 8; ++size) {
            if (size > 1 && size < 6) continue;
            vm.expectRevert(abi.encodeWithSelector(IMarketplace.BundleSizeOutOfRange.selector, size));
            marketplace.bundle(new uint64[](size));
        }
    }

    function test_RevertWhen_MembersDoNotRise() public {
        refuse(other, lora, IMarketplace.BundleNotSorted.selector, lora);
        refuse(lora, lora, IMarketplace.BundleNotSorted.selector, lora);
        refuse(0, lora, IMarketplace.BundleNotSorted.selector, 0);
        refuse(lora, 1 << 48, IMarketplace.BundleNotSorted.selector, 1 << 48);
    }

    function test_RevertWhen_AMemberIsUnknownOrABundle() public {
        refuse(lora, 99, IMarketplace.ListingUnknown.selector, 99);
        uint64 id = marketplace.bundle(two(lora, other));
        refuse(lora, id, IMarketplace.BundleNotSorted.selector, id);
    }

    function test_RevertWhen_TooManyWouldEarn() public {
        uint64[] memory members = new uint64[](5);
        for (uint256 i; i < 5; ++i) {
            uint64 parent = derive(alice, string.concat("p", vm.toString(i)), 0, 10);
            parent = derive(alice, string.concat("q", vm.toString(i)), parent, 10);
            members[i] = derive(alice, string.concat("r", vm.toString(i)), parent, 10);
        }
        vm.expectRevert(abi.encodeWithSelector(IMarketplace.BundleTooWide.selector, 15, 12));
        marketplace.bundle(members);
    }

    /// @dev Whatever the members ask for: all of it, or there is no such bundle.
    function testFuzz_AllThatWasPublishedOrNothing(uint16[5] memory asked) public {
        uint64[] memory members = new uint64[](5);
        uint256 sum = 1000;
        for (uint256 i; i < 5; ++i) {
            uint16 bps = uint16(clamp(asked[i], 0, 1000));
            members[i] = derive(alice, string.concat("f", vm.toString(i)), base, bps);
            sum += bps;
        }
        if (sum > 5000) {
            vm.expectRevert(abi.encodeWithSelector(IMarketplace.RoyaltyTooHigh.selector, sum, 5000));
            marketplace.bundle(members);
            return;
        }
        Royalty[] memory royalties = marketplace.royaltiesOf(marketplace.bundle(members));
        vm.assertEq(royalties.length, 6);
        for (uint256 i; i < royalties.length; ++i) {
            sum -= royalties[i].bps;
        }
        vm.assertEq(sum, 0);
    }

    function two(uint64 first, uint64 second) private pure returns (uint64[] memory members) {
        members = new uint64[](2);
        (members[0], members[1]) = (first, second);
    }

    function derive(address owner, string memory name, uint64 parent, uint16 royaltyBps) private returns (uint64) {
        vm.prank(owner);
        return marketplace.publish(name, keccak256(bytes(name)), 1, parent, royaltyBps, bytes32(0));
    }

    function refuse(uint64 first, uint64 second, bytes4 why, uint64 which) private {
        vm.expectRevert(abi.encodeWithSelector(why, which));
        marketplace.bundle(two(first, second));
    }
}
