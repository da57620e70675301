// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Bls12381
/// @notice What checking a BLS signature in G1 takes: hashing to the curve (RFC 9380) and one pairing check, by the
/// precompiles of EIP-2537.
/// @dev A precompile that refuses its input burns all gas that it was given. Calls whose input comes from a stranger are
/// therefore bounded; each bound leaves room for a later repricing. The other inputs are made here and never refused.
library Bls12381 {
    uint256 private constant SHA256 = 0x02;
    uint256 private constant MODEXP = 0x05;
    uint256 private constant G1_ADD = 0x0b;
    uint256 private constant PAIRING = 0x0f;
    uint256 private constant MAP_TO_G1 = 0x10;

    /// @dev EIP-2537 asks 375 for an addition and 102,900 for a check of two pairs.
    uint256 private constant ADD_GAS = 3000;
    uint256 private constant PAIRING_GAS = 150_000;

    /// @dev The field's modulus p and (p - 1) / 2: upper 128 bits and lower 256.
    uint256 private constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
    uint256 private constant HALF_HIGH = 0x0d0088f51cbff34d258dd3db21a5d66b;
    uint256 private constant HALF_LOW = 0xb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555;

    /// @dev The generator of G2, negated, as the precompile takes points of G2: x.c0, x.c1, y.c0, y.c1, 64 bytes each.
    // slither-disable-next-line too-many-digits -- padding of the precompile's encoding
    bytes private constant NEGATED_G2 =
        hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb80000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e000000000000000000000000000000000d1b3cc2c7027888be51d9ef691d77bcb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa0000000000000000000000000000000013fa4d4a0ad8b1ce186ed5061789213d993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed";

    /// @dev Domain separation of quicknet's scheme, its length appended as RFC 9380 wants it.
    bytes private constant DST_PRIME = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_\x2b";

    /// @notice Whether both coordinates of an uncompressed point (96 bytes) are below the modulus.
    function inField(bytes calldata point) internal pure returns (bool) {
        (uint256 xHigh, uint256 xLow) = coordinate(point, 0);
        (uint256 yHigh, uint256 yLow) = coordinate(point, 48);
        return less(xHigh, xLow, P_HIGH, P_LOW) && less(yHigh, yLow, P_HIGH, P_LOW);
    }

    /// @notice Whether a point lies on the curve and is not infinity. Its subgroup is left to the pairing.
    function onCurve(bytes calldata point) internal view returns (bool) {
        (uint256 xHigh, uint256 xLow) = coordinate(point, 0);
        (uint256 yHigh, uint256 yLow) = coordinate(point, 48);
        if (xHigh | xLow | yHigh | yLow == 0) return false;
        // An addition refuses what is not on the curve, and costs less than the equation would.
        (bool success,) = bounded(G1_ADD, bytes.concat(padded(point), new bytes(128)), ADD_GAS, 128);
        return success;
    }

    /// @notice The 48 bytes that stand for a point: x, with flags for "compressed" and for the larger of the two y.
    function compressed(bytes calldata point) internal pure returns (bytes memory) {
        (uint256 xHigh, uint256 xLow) = coordinate(point, 0);
        (uint256 yHigh, uint256 yLow) = coordinate(point, 48);
        uint256 flags = less(HALF_HIGH, HALF_LOW, yHigh, yLow) ? 0xa0 : 0x80;
        return abi.encodePacked(uint128(xHigh | (flags << 120)), xLow);
    }

    /// @notice Whether `signature` is that of `digest` under `publicKey`: e(signature, -g2) e(H(digest), key) = 1.
    /// @param signature Uncompressed, on the curve; refused when outside the subgroup.
    /// @param publicKey As `NEGATED_G2`.
    function signed(bytes calldata signature, bytes32 digest, bytes memory publicKey) internal view returns (bool) {
        (bool success, bytes32 equal) = bounded(
            PAIRING, bytes.concat(padded(signature), NEGATED_G2, hashToCurve(digest), publicKey), PAIRING_GAS, 32
        );
        return success && equal == bytes32(uint256(1));
    }

    /// @notice RFC 9380, suite BLS12381G1_XMD:SHA-256_SSWU_RO_, as the precompiles write a point. Empty without EIP-2537.
    function hashToCurve(bytes32 message) internal view returns (bytes memory) {
        bytes32 start = sha256(abi.encodePacked(new bytes(64), message, uint16(128), uint8(0), DST_PRIME));
        bytes32 one = sha256(abi.encodePacked(start, uint8(1), DST_PRIME));
        bytes32 two = sha256(abi.encodePacked(start ^ one, uint8(2), DST_PRIME));
        bytes32 three = sha256(abi.encodePacked(start ^ two, uint8(3), DST_PRIME));
        bytes32 four = sha256(abi.encodePacked(start ^ three, uint8(4), DST_PRIME));
        // The map clears the cofactor, and a sum of cleared points is the cleared sum.
        return call(G1_ADD, bytes.concat(mapped(one, two), mapped(three, four)));
    }

    /// @dev A uniform 512-bit number, reduced to the field and mapped to the subgroup.
    function mapped(bytes32 high, bytes32 low) private view returns (bytes memory) {
        // (high ‖ low) ^ 1 mod p, with all lengths 64, gives the number padded as the map takes it.
        bytes memory reduced =
            call(MODEXP, abi.encodePacked(uint256(64), uint256(1), uint256(64), high, low, uint8(1), P_HIGH, P_LOW));
        return call(MAP_TO_G1, reduced);
    }

    /// @dev Both coordinates with the sixteen zero bytes before each that the precompiles want.
    function padded(bytes calldata point) private pure returns (bytes memory) {
        return bytes.concat(bytes16(0), point[:48], bytes16(0), point[48:]);
    }

    function coordinate(bytes calldata point, uint256 at) private pure returns (uint256 high, uint256 low) {
        high = uint128(bytes16(point[at:]));
        low = uint256(bytes32(point[at + 16:]));
    }

    function less(uint256 aHigh, uint256 aLow, uint256 bHigh, uint256 bLow) private pure returns (bool) {
        return aHigh < bHigh || (aHigh == bHigh && aLow < bLow);
    }

    function call(uint256 precompile, bytes memory input) private view returns (bytes memory output) {
        // slither-disable-next-line low-level-calls -- a precompile has no interface
        (, output) = address(uint160(precompile)).staticcall(input);
    }

    /// @dev Passes on at most `gasLimit`, and succeeds only with an answer of `size` bytes: where there is no precompile, a
    /// call succeeds with none.
    /// @return success Whether it answered.
    /// @return first The answer's first word.
    function bounded(uint256 precompile, bytes memory input, uint256 gasLimit, uint256 size)
        private
        view
        returns (bool success, bytes32 first)
    {
        bytes memory output;
        // slither-disable-next-line low-level-calls -- as above
        (success, output) = address(uint160(precompile)).staticcall{gas: gasLimit}(input);
        success = success && output.length == size;
        if (success) first = bytes32(output);
    }
}
