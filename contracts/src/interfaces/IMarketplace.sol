// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice What a listing is.
enum ListingKind {
    Base,
    Lora,
    ControlNet,
    Vae,
    Dataset
}

/// @notice What one listing earns of each task.
struct Royalty {
    uint64 listing;
    address owner;
    uint16 bps;
}

/// @title IMarketplace
/// @notice Listings of models and datasets: who owns them, what they hash to, what their owner earns.
/// @dev A listing's manifest, parent, royalty and licence never change. Yanking hides it from new users; running tasks go
/// on. A manifest belongs to its first publisher: nobody else may list the same bytes.
interface IMarketplace {
    /// @notice A version of `name` was published.
    event ListingPublished(
        uint64 indexed id,
        address indexed owner,
        string name,
        uint32 version,
        bytes32 manifest,
        uint8 kind,
        uint64 parent,
        uint16 royaltyBps,
        bytes32 licence
    );

    /// @notice The owner advises against new use (`yanked`), or takes that back.
    event ListingYanked(uint64 indexed id, bool yanked);

    /// @notice Royalties of a listing go to `to` from now on.
    event ListingTransferred(uint64 indexed id, address indexed from, address indexed to);

    /// @notice Tasks that use all of `members` name `id`; who made it has no part in it.
    event BundleMade(uint64 indexed id, uint64[] members);

    /// @notice Thrown when a bundle has fewer than two or more than five members.
    error BundleSizeOutOfRange(uint256 members);

    /// @notice Thrown when a bundle's members do not rise, or one has a number too high to be remembered in a bundle.
    error BundleNotSorted(uint64 member);

    /// @notice Thrown when a bundle's members and their parents are more than `most` listings.
    error BundleTooWide(uint256 listings, uint256 most);

    /// @notice Thrown when a name is not 1 to 64 characters: one part, or a publisher's and one more with a slash
    /// between. A part is of a-z, 0-9, dot, dash and underscore and starts with a letter or digit.
    error NameInvalid(string name);

    /// @notice Thrown when a name, or the publisher's part of one, belongs to who used it first, not to the caller.
    error NameTaken(string name, address owner);

    /// @notice Thrown when there is no such listing.
    error ListingUnknown(uint64 id);

    /// @notice Thrown when somebody else than the owner changes a listing.
    error NotListingOwner(address caller, address owner);

    /// @notice Thrown when a royalty and those of all parents, or of all that a bundle pays, are together above the
    /// marketplace's limit for it, basis points.
    error RoyaltyTooHigh(uint256 royaltyBps, uint16 most);

    /// @notice Thrown when a listing and its parents would be more than `most`.
    error LineageTooLong(uint64 parent, uint256 most);

    /// @notice Thrown when another publisher listed the same manifest before.
    error ManifestTaken(bytes32 manifest, uint64 listing, address owner);

    /// @notice Thrown when a kind is not a `ListingKind`.
    error KindUnknown(uint8 kind);

    /// @notice Thrown when a manifest hash is zero.
    error ManifestEmpty();

    /// @notice Thrown when a rule given to the constructor is outside its hard range.
    error RuleOutOfRange(uint256 value, uint256 least, uint256 greatest);

    /// @notice Thrown when an address must not be zero.
    error ZeroAddress();

    /// @notice Publishes the next version of `name`.
    /// @param name Owned by whoever published its first version. `alice/zbx` needs `alice`, which is free or the caller's.
    /// @param manifest BLAKE3 hash of the model manifest; not zero, and not another publisher's.
    /// @param kind A `ListingKind`.
    /// @param parent Listing it was made from, which earns its own royalty on each task of this one; 0 for none.
    /// @param royaltyBps Owner's share of each task's fee, basis points.
    /// @param licence Hash of the licence text; zero for none given.
    /// @return id Counts up from 1.
    function publish(
        string calldata name,
        bytes32 manifest,
        uint8 kind,
        uint64 parent,
        uint16 royaltyBps,
        bytes32 licence
    ) external returns (uint64 id);

    /// @notice Hides a listing from new use. Owner only.
    function yank(uint64 id) external;

    /// @notice Takes a yank back. Owner only.
    function unyank(uint64 id) external;

    /// @notice Gives a listing and its royalties to `to`. Owner only; the name stays with its first publisher.
    function transferListing(uint64 id, address to) external;

    /// @notice The number that a task names which uses several listings, so that each of them earns. Anyone may ask for
    /// one; the same members have the same number for good.
    /// @param members Two to five listings, rising.
    /// @return id From 2^63 + 1 up: never that of a listing.
    function bundle(uint64[] calldata members) external returns (uint64 id);

    /// @notice The number of a bundle; 0 while nobody asked for it.
    function bundleOf(uint64[] calldata members) external view returns (uint64);

    /// @notice The members of a bundle, rising; empty for an unknown one.
    function membersOf(uint64 id) external view returns (uint64[] memory);

    /// @notice The whole record of a listing.
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
        );

    /// @notice Who earns on a task of a listing, and how much: the listing first, then its parents. Empty for unknown
    /// listings. One storage read a listing. Of a bundle: each member and its parents, each listing once,
    /// with all that it was published with.
    function royaltiesOf(uint64 id) external view returns (Royalty[] memory);

    /// @notice The first listing of a manifest, whose owner owns the manifest; 0 when nobody published it.
    function listingOfManifest(bytes32 manifest) external view returns (uint64);

    /// @notice Listing of a version of a name; 0 when there is none.
    function idOf(string calldata name, uint32 version) external view returns (uint64);

    /// @notice Newest version of a name and its owner; zeros when nobody published it. A publisher has an owner from the
    /// first name published under it, and version 0 until it is a listing's name itself.
    function latestOf(string calldata name) external view returns (address owner, uint32 version);

    /// @notice How many listings there are; ids are 1 to this.
    function listingCount() external view returns (uint64);

    /// @notice Highest sum of royalties along a listing and its parents, basis points.
    function maxRoyaltyBps() external view returns (uint16);

    /// @notice The same for all that a bundle pays: three times that, at most half of a fee.
    function maxBundleBps() external view returns (uint16);
}
