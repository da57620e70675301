// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {RegistryRules} from "../../src/interfaces/INodeRegistry.sol";
import {AuditRate} from "../../src/libraries/AuditRate.sol";
import {Penalties} from "../../src/libraries/Penalties.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

interface Svm {
    function assume(bool condition) external pure;
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
}

/// @dev The arithmetic of penalties and shares, proved for all amounts by scripts/halmos. Solvers give up on products of
/// two unknowns, so shares are proved at the rules that ship and at the borders; fuzzing covers what lies between.
contract PenaltiesProof {
    Svm private constant vm = Svm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address private constant NODE = address(0x40DE);
    /// @dev A power of two, which solvers divide by at ease; no stake of 96 bits is over the largest weight then.
    uint96 private constant LEAST = 2 ** 65;

    NodeRegistry private registry;
    Ledger private token;

    function setUp() public {
        vm.warp(1_800_000_000);
        token = new Ledger();
        registry = new NodeRegistry(IERC20(address(token)), address(this), RegistryRules(LEAST, LEAST, 600, 0));
        // The proof is board and arbiter.
        registry.setBoard(address(this));
        registry.setArbiter(address(this));
    }

    /// @notice No fee, factor or share makes a penalty exceed the stake.
    function check_PenaltyIsWithinTheStake(uint96 stake, uint96 fee, uint32 factor, uint16 bps) public pure {
        vm.assume(bps <= 10_000);
        assert(Penalties.penalty(stake, fee, factor, bps) <= stake);
    }

    /// @notice A penalty reaches the multiple of the fee that the rules ask for, or takes the whole stake.
    function check_PenaltyReachesTheFee(uint96 stake, uint96 fee) public pure {
        uint96 taken = Penalties.penalty(stake, fee, 1000, 500);
        assert(taken == stake || taken >= uint256(fee) * 1000);
    }

    /// @notice What is burned, refunded and kept is what was taken, and no share exceeds it.
    function check_SharesSumExactly(uint96 taken) public pure {
        sums(taken, 5000, 3000);
    }

    function check_SharesSumExactlyAtTheBorders(uint96 taken) public pure {
        sums(taken, 0, 0);
        sums(taken, 10_000, 0);
        sums(taken, 0, 10_000);
        sums(taken, 1, 9999);
    }

    /// @notice Rules that the constructor accepts keep every rate between the lowest and the highest of them, and no passed
    /// audit ever raises it.
    function check_RatesFallWithinTheirBounds(uint32 passed, uint32[2] memory audits, uint16[3] memory bps)
        public
        pure
    {
        vm.assume(audits[0] <= audits[1]);
        vm.assume(bps[0] <= 10_000 && bps[1] <= bps[0] && bps[2] <= bps[1]);
        vm.assume(passed < type(uint32).max);
        uint16 now_ = AuditRate.bpsOf(passed, audits[0], audits[1], bps[0], bps[1], bps[2]);
        assert(now_ >= bps[2] && now_ <= bps[0]);
        assert(AuditRate.bpsOf(passed + 1, audits[0], audits[1], bps[0], bps[1], bps[2]) <= now_);
        assert(passed >= audits[0] || now_ == bps[0]);
    }

    /// @notice The registry gives out what it takes off the stake, and never more than there was.
    function check_SlashTakesAtMostTheStake(uint96 stake, uint96 amount, address beneficiary) public {
        vm.assume(stake >= LEAST && beneficiary != address(0));
        vm.prank(NODE);
        registry.register(abi.encodePacked(NODE), bytes32(uint256(1)), stake);
        uint96 taken = registry.slash(NODE, amount, beneficiary);
        assert(taken <= stake && taken <= amount);
        assert(taken == amount || taken == stake);
        assert(registry.stakeOf(NODE) == stake - taken);
        assert(token.paid() == taken);
    }

    function sums(uint96 taken, uint16 burnBps, uint16 requesterBps) private pure {
        (uint96 burned, uint96 toRequester, uint96 toPool) = Penalties.shares(taken, burnBps, requesterBps);
        assert(burned <= taken && toRequester <= taken && toPool <= taken);
        assert(uint256(burned) + toRequester + toPool == taken);
    }

    function setWeight(address, uint32, uint40) external {}

    function activeClaimsOf(address) external pure returns (uint32) {
        return 0;
    }
}

/// @dev Delivers what it is asked for, and counts what goes out.
contract Ledger {
    uint256 private held;
    uint256 public paid;

    function balanceOf(address) external view returns (uint256) {
        return held;
    }

    function transferFrom(address, address, uint256 amount) external returns (bool) {
        held += amount;
        return true;
    }

    function transfer(address, uint256 amount) external returns (bool) {
        paid += amount;
        return true;
    }
}
