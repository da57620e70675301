// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Where a node stands. Only active nodes have sortition weight.
enum NodeState {
    None,
    Active,
    Paused,
    Unbonding
}

/// @notice Rules of a registry, fixed for its life.
/// @param minStake Least stake of an active node, base units.
/// @param stakePerWeight Base units of stake for one unit of sortition weight; at most `minStake`.
/// @param unbondingPeriod Seconds between `beginUnbond` and `withdrawStake`.
/// @param activationDelay Seconds after register, resume or addStake before a node may claim, audit or judge; set it to
/// the longest claim window and nobody can make an address or a weight that suits a seed already known.
struct RegistryRules {
    uint96 minStake;
    uint96 stakePerWeight;
    uint32 unbondingPeriod;
    uint32 activationDelay;
}

/// @title INodeRegistry
/// @notice Membership: stake, peer id, capability hash, sortition weight and standing of nodes.
/// @dev A node is its wallet address. One peer id belongs to one wallet and one wallet to one peer id.
interface INodeRegistry {
    // ------------------------------------------------------------------ events

    /// @notice A node joined with `stake` base units.
    event NodeRegistered(address indexed node, bytes peerId, bytes32 capabilities, uint96 stake);

    /// @notice A node changed its peer id or capabilities.
    event NodeUpdated(address indexed node, bytes peerId, bytes32 capabilities);

    /// @notice A node took no more tasks, by its own wish, or because its stake or standing fell too low.
    event NodePaused(address indexed node);

    /// @notice A paused node takes tasks again.
    event NodeResumed(address indexed node);

    /// @notice A node's stake is now `stake` base units.
    event StakeChanged(address indexed node, uint96 stake);

    /// @notice A node is leaving; its stake may go from `releaseAt`, that second included.
    event UnbondBegun(address indexed node, uint40 releaseAt);

    /// @notice A node has left with its stake.
    event StakeWithdrawn(address indexed node, uint96 amount);

    /// @notice The arbiter took stake away and gave it to `beneficiary`.
    event Slashed(address indexed node, uint96 amount, address indexed beneficiary);

    /// @notice A node's standing is now `standing` of 100.
    event StandingChanged(address indexed node, uint8 standing);

    /// @notice The one board this registry will ever serve.
    event BoardSet(address indexed board);

    /// @notice The one arbiter this registry will ever have.
    event ArbiterSet(address indexed arbiter);

    // ------------------------------------------------------------------ errors

    /// @notice Thrown when a peer id is empty or longer than 64 bytes.
    error PeerIdInvalid(uint256 length);

    /// @notice Thrown when a peer id belongs to another wallet.
    error PeerIdTaken(address node);

    /// @notice Thrown when a wallet registers twice.
    error AlreadyRegistered(address node);

    /// @notice Thrown when a step does not fit the node's state.
    error UnexpectedNodeState(address node, NodeState state);

    /// @notice Thrown when stake would be below the minimum, base units.
    error StakeTooLow(uint256 stake, uint256 minStake);

    /// @notice Thrown when stake does not fit its 96 bits, or its weight not 32 bits.
    error StakeTooHigh(uint256 stake);

    /// @notice Thrown when standing is too low to resume; it recovers with time.
    error StandingTooLow(uint8 standing, uint8 needed);

    /// @notice Thrown when stake is asked for before the unbonding period is over.
    error StillUnbonding(uint40 releaseAt);

    /// @notice Thrown when stake is asked for while the node has unfinished tasks.
    error ClaimsOutstanding(uint32 activeClaims);

    /// @notice Thrown when the token moved another amount than asked, as tokens with a transfer fee do.
    error TokenAmountMismatch(uint256 expected, uint256 received);

    /// @notice Thrown when the caller is not the board.
    error NotBoard(address caller);

    /// @notice Thrown when the caller is not the arbiter.
    error NotArbiter(address caller);

    /// @notice Thrown when the caller is not the admin.
    error NotAdmin(address caller);

    /// @notice Thrown when a role was given before.
    error RoleAlreadySet(address holder);

    /// @notice Thrown when nodes register before the board is known.
    error BoardNotSet();

    /// @notice Thrown when a rule given to the constructor is outside its hard range.
    error RuleOutOfRange(uint256 value, uint256 least, uint256 greatest);

    /// @notice Thrown when an address must not be zero.
    error ZeroAddress();

    // ------------------------------------------------------------------ membership

    /// @notice Joins with `stake` base units pulled from the caller.
    /// @param peerId Multihash of the transport key, 1 to 64 bytes.
    /// @param capabilities Hash of the node's advert; the registry does not interpret it.
    function register(bytes calldata peerId, bytes32 capabilities, uint96 stake) external;

    /// @notice Same as `register`, with an EIP-2612 permit for the allowance.
    /// @dev A permit that somebody else already used is ignored; the allowance decides.
    function registerWithPermit(
        bytes calldata peerId,
        bytes32 capabilities,
        uint96 stake,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;

    /// @notice Changes the caller's peer id and capabilities.
    function update(bytes calldata peerId, bytes32 capabilities) external;

    /// @notice Takes the caller out of sortition; running tasks go on.
    function pause() external;

    /// @notice Brings the caller back into sortition, given enough stake and standing.
    function resume() external;

    /// @notice Adds `amount` base units to the caller's stake. The activation delay of an active node starts anew, for
    /// all of its weight, so that no stake added after a draw is known can move that draw.
    function addStake(uint96 amount) external;

    /// @notice Starts leaving: no more tasks, stake stays slashable until it is withdrawn.
    function beginUnbond() external;

    /// @notice Ends leaving: pays the stake out and frees the peer id. Needs all tasks to be terminal.
    function withdrawStake() external;

    // ------------------------------------------------------------------ roles

    /// @notice Names the board, once and for all. Admin only.
    function setBoard(address board_) external;

    /// @notice Names the arbiter, once and for all. Admin only.
    function setArbiter(address arbiter_) external;

    /// @notice Takes up to `amount` base units of a node's stake for `beneficiary`. Arbiter only.
    /// @return slashed What was really taken.
    function slash(address node, uint96 amount, address beneficiary) external returns (uint96 slashed);

    /// @notice Notes that a node let a claimed task expire. Board only.
    function recordExpiry(address node) external;

    // ------------------------------------------------------------------ views

    /// @notice Sortition weight: 0 unless active and past the activation delay.
    function weightOf(address node) external view returns (uint32);

    /// @notice Sum of the weights of all active nodes, those within their activation delay included.
    function totalWeight() external view returns (uint64);

    /// @notice The whole record of a node.
    /// @return peerId Multihash of its transport key; empty when unknown.
    /// @return capabilities Hash of its advert.
    /// @return stake Base units.
    /// @return weight As `weightOf`.
    /// @return state A `NodeState`.
    /// @return standing 0 to 100; falls with every expiry, recovers a point an hour.
    /// @return unbondAt Second from which stake may be withdrawn; 0 unless unbonding.
    function nodeOf(address node)
        external
        view
        returns (
            bytes memory peerId,
            bytes32 capabilities,
            uint96 stake,
            uint32 weight,
            uint8 state,
            uint8 standing,
            uint40 unbondAt
        );

    /// @notice A node's stake, base units.
    function stakeOf(address node) external view returns (uint96);

    /// @notice The wallet that a peer id is bound to; zero when none.
    function walletOf(bytes calldata peerId) external view returns (address);

    /// @notice The registry's rules.
    /// @return minStake Base units.
    /// @return stakePerWeight Base units.
    /// @return unbondingPeriod Seconds.
    /// @return activationDelay Seconds.
    function params()
        external
        view
        returns (uint96 minStake, uint96 stakePerWeight, uint32 unbondingPeriod, uint32 activationDelay);

    /// @notice The board, zero while there is none.
    function board() external view returns (address);

    /// @notice The arbiter, zero while there is none.
    function arbiter() external view returns (address);
}
