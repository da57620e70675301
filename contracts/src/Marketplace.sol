// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IMarketplace, ListingKind, Royalty} from "./interfaces/IMarketplace.sol";

/// @title Marketplace
/// @notice See `IMarketplace`.
/// @dev What a settlement reads of a listing is its first word. Names are stored once, not once a version; a publisher
/// is a name like any other.
contract Marketplace is IMarketplace {
    struct Listing {
        address owner;
        uint16 royaltyBps;
        uint64 parent;
        uint8 kind;
        bool yanked;
        bytes32 manifest;
        bytes32 licence;
        bytes32 nameHash;
        uint32 version;
    }

    struct Name {
        address owner;
        uint32 versions;
        string text;
    }

    /// @dev A listing and its parents: what a settlement may have to walk.
    uint256 private constant MAX_LINEAGE = 4;
    /// @dev Numbers of bundles begin above it, those of listings stay below.
    uint64 private constant BUNDLES = 1 << 63;
    uint256 private constant MAX_MEMBERS = 5;
    /// @dev What a settlement of a bundle may have to pay.
    uint256 private constant MAX_SHARES = 12;
    /// @dev Together a bundle's royalties may be this many times what one listing's may, and half of a fee at most.
    uint256 private constant LISTINGS_A_BUNDLE_MAY_COST = 3;
    uint256 private constant MOST_BPS = 5000;
    /// @dev So that the members of a bundle share one word.
    uint256 private constant MEMBER_BITS = 48;

    /// @inheritdoc IMarketplace
    uint16 public immutable maxRoyaltyBps;
    /// @inheritdoc IMarketplace
    uint16 public immutable maxBundleBps;
    /// @inheritdoc IMarketplace
    uint64 public listingCount;

    mapping(uint64 id => Listing) private _listings;
    mapping(bytes32 nameHash => Name) private _names;
    mapping(bytes32 nameHash => mapping(uint32 version => uint64 id)) private _ids;
    /// @inheritdoc IMarketplace
    mapping(bytes32 manifest => uint64 id) public listingOfManifest;
    uint64 private _bundles;
    /// @dev The members of a bundle, the lowest in the lowest bits.
    mapping(uint64 id => uint256 members) private _members;
    mapping(uint256 members => uint64 id) private _bundleIds;

    modifier onlyListingOwner(uint64 id) {
        address owner = _listings[id].owner;
        if (owner == address(0)) revert ListingUnknown(id);
        if (msg.sender != owner) revert NotListingOwner(msg.sender, owner);
        _;
    }

    constructor(uint16 maxRoyaltyBps_) {
        if (maxRoyaltyBps_ > MOST_BPS) revert RuleOutOfRange(maxRoyaltyBps_, 0, MOST_BPS);
        maxRoyaltyBps = maxRoyaltyBps_;
        uint256 together = LISTINGS_A_BUNDLE_MAY_COST * maxRoyaltyBps_;
        maxBundleBps = uint16(together < MOST_BPS ? together : MOST_BPS);
    }

    /// @inheritdoc IMarketplace
    function publish(
        string calldata name,
        bytes32 manifest,
        uint8 kind,
        uint64 parent,
        uint16 royaltyBps,
        bytes32 licence
    ) external returns (uint64 id) {
        if (manifest == bytes32(0)) revert ManifestEmpty();
        if (kind > uint8(type(ListingKind).max)) revert KindUnknown(kind);
        if (parent > listingCount) revert ListingUnknown(parent);
        _checkLineage(parent, royaltyBps);
        bytes32 nameHash = keccak256(bytes(name));
        uint32 version = _nextVersion(name, nameHash);
        id = ++listingCount;
        _ownManifest(manifest, id);
        _listings[id] = Listing({
            owner: msg.sender,
            royaltyBps: royaltyBps,
            parent: parent,
            kind: kind,
            yanked: false,
            manifest: manifest,
            licence: licence,
            nameHash: nameHash,
            version: version
        });
        _ids[nameHash][version] = id;
        emit ListingPublished(id, msg.sender, name, version, manifest, kind, parent, royaltyBps, licence);
    }

    /// @inheritdoc IMarketplace
    function yank(uint64 id) external onlyListingOwner(id) {
        _listings[id].yanked = true;
        emit ListingYanked(id, true);
    }

    /// @inheritdoc IMarketplace
    function unyank(uint64 id) external onlyListingOwner(id) {
        _listings[id].yanked = false;
        emit ListingYanked(id, false);
    }

    /// @inheritdoc IMarketplace
    function transferListing(uint64 id, address to) external onlyListingOwner(id) {
        if (to == address(0)) revert ZeroAddress();
        _listings[id].owner = to;
        emit ListingTransferred(id, msg.sender, to);
    }

    /// @inheritdoc IMarketplace
    function bundle(uint64[] calldata members) external returns (uint64 id) {
        uint256 packed = _pack(members);
        id = _bundleIds[packed];
        if (id != 0) return id;
        for (uint256 i; i < members.length; ++i) {
            if (_listings[members[i]].owner == address(0)) revert ListingUnknown(members[i]);
        }
        id = BUNDLES | ++_bundles;
        (_bundleIds[packed], _members[id]) = (id, packed);
        Royalty[] memory shares = royaltiesOf(id);
        if (shares.length > MAX_SHARES) revert BundleTooWide(shares.length, MAX_SHARES);
        uint256 sum = _sum(shares);
        if (sum > maxBundleBps) revert RoyaltyTooHigh(sum, maxBundleBps);
        emit BundleMade(id, members);
    }

    /// @inheritdoc IMarketplace
    function bundleOf(uint64[] calldata members) external view returns (uint64) {
        return _bundleIds[_pack(members)];
    }

    /// @inheritdoc IMarketplace
    function membersOf(uint64 id) external view returns (uint64[] memory members) {
        members = new uint64[](MAX_MEMBERS);
        uint256 count;
        for (uint256 packed = _members[id]; packed != 0; packed >>= MEMBER_BITS) {
            members[count++] = uint64(packed & ((1 << MEMBER_BITS) - 1));
        }
        assembly ("memory-safe") {
            mstore(members, count)
        }
    }

    /// @inheritdoc IMarketplace
    function listingOf(uint64 id)
        external
        view
        returns (
            address owner,
            bytes32 manifest,
            uint8 kind,
            uint64 parent,
            uint16 royaltyBps,
            bytes32 licence,
            bool yanked,
            string memory name,
            uint32 version
        )
    {
        Listing storage listing = _listings[id];
        if (listing.owner == address(0)) revert ListingUnknown(id);
        owner = listing.owner;
        manifest = listing.manifest;
        kind = listing.kind;
        parent = listing.parent;
        royaltyBps = listing.royaltyBps;
        licence = listing.licence;
        yanked = listing.yanked;
        name = _names[listing.nameHash].text;
        version = listing.version;
    }

    /// @inheritdoc IMarketplace
    function royaltiesOf(uint64 id) public view returns (Royalty[] memory royalties) {
        if (id > BUNDLES) return _royaltiesOfBundle(_members[id]);
        royalties = new Royalty[](MAX_LINEAGE);
        uint256 count;
        // Unknown listings have no owner; publish bounds the walk.
        while (id != 0 && _listings[id].owner != address(0)) {
            Listing storage listing = _listings[id];
            royalties[count++] = Royalty(id, listing.owner, listing.royaltyBps);
            id = listing.parent;
        }
        assembly ("memory-safe") {
            mstore(royalties, count)
        }
    }

    /// @inheritdoc IMarketplace
    function idOf(string calldata name, uint32 version) external view returns (uint64) {
        return _ids[keccak256(bytes(name))][version];
    }

    /// @inheritdoc IMarketplace
    function latestOf(string calldata name) external view returns (address owner, uint32 version) {
        Name storage record = _names[keccak256(bytes(name))];
        return (record.owner, record.versions);
    }

    /// @dev Each listing once, also where several members are made from it. None gets less than it was published with:
    /// a requester could add listings of its own and so take back what others ask for.
    function _royaltiesOfBundle(uint256 packed) private view returns (Royalty[] memory royalties) {
        royalties = new Royalty[](MAX_MEMBERS * MAX_LINEAGE);
        uint256 count;
        for (; packed != 0; packed >>= MEMBER_BITS) {
            Royalty[] memory lineage = royaltiesOf(uint64(packed & ((1 << MEMBER_BITS) - 1)));
            uint256 before = count;
            for (uint256 i; i < lineage.length && !_stands(royalties, before, lineage[i].listing); ++i) {
                royalties[count++] = lineage[i];
            }
        }
        assembly ("memory-safe") {
            mstore(royalties, count)
        }
    }

    function _sum(Royalty[] memory royalties) private pure returns (uint256 bps) {
        for (uint256 i; i < royalties.length; ++i) {
            bps += royalties[i].bps;
        }
    }

    /// @dev Whether a listing is among the first `count`; its parents are then too.
    function _stands(Royalty[] memory royalties, uint256 count, uint64 id) private pure returns (bool) {
        for (uint256 i; i < count; ++i) {
            if (royalties[i].listing == id) return true;
        }
        return false;
    }

    function _pack(uint64[] calldata members) private pure returns (uint256 packed) {
        if (members.length < 2 || members.length > MAX_MEMBERS) revert BundleSizeOutOfRange(members.length);
        uint64 last;
        for (uint256 i; i < members.length; ++i) {
            uint64 member = members[i];
            if (member <= last || member >> MEMBER_BITS != 0) revert BundleNotSorted(member);
            packed |= uint256(member) << (MEMBER_BITS * i);
            last = member;
        }
    }

    /// @dev Bounds what every later settlement walks and pays.
    function _checkLineage(uint64 parent, uint16 royaltyBps) private view {
        Royalty[] memory above = royaltiesOf(parent);
        if (above.length == MAX_LINEAGE) revert LineageTooLong(parent, MAX_LINEAGE);
        uint256 sum = royaltyBps + _sum(above);
        if (sum > maxRoyaltyBps) revert RoyaltyTooHigh(sum, maxRoyaltyBps);
    }

    /// @dev The first publisher of a manifest owns it, and whoever gets that first listing; they alone may list it again.
    function _ownManifest(bytes32 manifest, uint64 id) private {
        uint64 first = listingOfManifest[manifest];
        if (first == 0) {
            listingOfManifest[manifest] = id;
            return;
        }
        address owner = _listings[first].owner;
        if (msg.sender != owner) revert ManifestTaken(manifest, first, owner);
    }

    /// @dev The first publisher of a name owns it; later versions are the owner's alone.
    function _nextVersion(string calldata name, bytes32 nameHash) private returns (uint32) {
        Name storage record = _names[nameHash];
        if (record.versions == 0) {
            uint256 slash = _publisherEnd(name);
            if (slash != 0) {
                string calldata publisher = string(bytes(name)[:slash]);
                _own(_names[keccak256(bytes(publisher))], publisher);
            }
            _own(record, name);
            record.text = name;
        } else if (record.owner != msg.sender) {
            revert NameTaken(name, record.owner);
        }
        return ++record.versions;
    }

    /// @dev Whoever publishes under a name first owns it, and with it every name that begins with it and a slash.
    function _own(Name storage record, string calldata name) private {
        if (record.owner == address(0)) record.owner = msg.sender;
        else if (record.owner != msg.sender) revert NameTaken(name, record.owner);
    }

    /// @dev Plain ASCII only, so that no two names look alike and none needs escaping in a path or an address.
    /// @return slash Where the publisher's part ends; 0 for a name without one.
    function _publisherEnd(string calldata text) private pure returns (uint256 slash) {
        bytes calldata name = bytes(text);
        if (name.length == 0 || name.length > 64) revert NameInvalid(text);
        bool begins = true;
        for (uint256 i; i < name.length; ++i) {
            bytes1 c = name[i];
            if (_alphanumeric(c)) {
                begins = false;
            } else if (begins) {
                revert NameInvalid(text);
            } else if (c == "/" && slash == 0) {
                slash = i;
                begins = true;
            } else if (c != "." && c != "-" && c != "_") {
                revert NameInvalid(text);
            }
        }
        if (begins) revert NameInvalid(text);
    }

    function _alphanumeric(bytes1 c) private pure returns (bool) {
        return (c >= "a" && c <= "z") || (c >= "0" && c <= "9");
    }
}
